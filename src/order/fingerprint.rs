//! The fingerprint of an order as it is placed: sku and quantity of one user in one sale.
//!
//! It hashes the validated, typed command and not the bytes that carried it, so member order, white space, and
//! whether the key came in a header or the body make no difference.

use rushgate_idempotency::Fingerprint;

use super::{Salt, UserId};

/// The fingerprint of "`user` orders `quantity` units of `sku` in `sale`", under the sale's salt.
pub fn place_fingerprint(salt: &Salt, sale: &str, user: UserId, sku: &str, quantity: u32) -> Fingerprint {
    let (user, quantity) = (user.get().to_le_bytes(), quantity.to_le_bytes());
    Fingerprint::keyed(salt.as_bytes(), "rushgate place", &[sale.as_bytes(), &user, sku.as_bytes(), &quantity])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sale: &str, user: u64, sku: &str, quantity: u32) -> Fingerprint {
        place_fingerprint(&Salt::new([1; 32]), sale, UserId::new(user).unwrap(), sku, quantity)
    }

    #[test]
    fn every_member_of_the_command_counts() {
        let first = of("s", 1, "a", 1);
        assert_eq!(first, of("s", 1, "a", 1));
        for other in [of("t", 1, "a", 1), of("s", 2, "a", 1), of("s", 1, "b", 1), of("s", 1, "a", 2)] {
            assert_ne!(first, other);
        }
    }

    /// Computed by another program, with Python's `blake3`: if it changes, retries of open orders look like misuse.
    #[test]
    fn golden() {
        let golden = 0x43b0_a859_105e_4e62_8267_c1e3_0501_c111_u128;
        assert_eq!(of("s", 1, "a", 1), Fingerprint::from_bytes(golden.to_be_bytes()));
    }
}
