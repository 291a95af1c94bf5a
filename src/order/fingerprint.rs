//! The fingerprint of a command: what "the same content" means.
//!
//! It hashes the validated, typed command and not the bytes that carried it, so member order, white space, and
//! whether the key came in a header or the body make no difference.

use super::UserId;
use super::number::{Input, Salt};

/// The fingerprint version that is computed today; it would be stored with the order if there were a second.
const VERSION: u8 = 1;

/// 128 bits of BLAKE3 over a typed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of "`user` orders `quantity` units of `sku` in `sale`".
    pub fn of_place(salt: &Salt, sale: &str, user: UserId, sku: &str, quantity: u32) -> Self {
        let mut input = Input::new(b"rushgate place", VERSION);
        input
            .field(sale.as_bytes())
            .field(&user.get().to_le_bytes())
            .field(sku.as_bytes())
            .field(&quantity.to_le_bytes());
        Fingerprint(input.hash(salt))
    }

    /// The fingerprint of a command of another kind: `command` names it, `fields` are its typed values in a fixed order.
    pub fn of_fields(command: &str, fields: &[&[u8]]) -> Self {
        let mut input = Input::new(command.as_bytes(), VERSION);
        for field in fields {
            input.field(field);
        }
        // Compared only within one key, whose scope names its owner: it needs no secret.
        Fingerprint(input.hash(&Salt::new([0; 32])))
    }

    /// Wraps the ledger's bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Fingerprint(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_the_command_counts() {
        let of = |sale, user, sku, quantity| {
            Fingerprint::of_place(&Salt::new([1; 32]), sale, UserId::new(user).unwrap(), sku, quantity)
        };
        let first = of("s", 1, "a", 1);
        assert_eq!(first, of("s", 1, "a", 1));
        for other in [of("t", 1, "a", 1), of("s", 2, "a", 1), of("s", 1, "b", 1), of("s", 1, "a", 2)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        let all = [
            Fingerprint::of_fields("refund", &[b"ab", b"c"]),
            Fingerprint::of_fields("refund", &[b"a", b"bc"]),
            Fingerprint::of_fields("refund", &[b"abc"]),
            Fingerprint::of_fields("refunda", &[b"bc"]),
            Fingerprint::of_fields("refund", &[]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one), "{at}");
        }
    }
}
