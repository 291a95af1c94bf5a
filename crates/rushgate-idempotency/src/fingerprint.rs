//! The fingerprint of a command: what "the same content" means.

/// The version of the fingerprint, part of its input: another one would make every open retry look like misuse.
const VERSION: u8 = 1;

/// 128 bits of BLAKE3 over a typed command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of a command: `command` names it, `fields` are its typed values in a fixed order.
    ///
    /// It hashes the validated values and not the bytes that carried them, so member order and white space make no
    /// difference. A service compares it within one key only, whose scope names the user: it needs no secret.
    pub fn of_fields(command: &str, fields: &[&[u8]]) -> Self {
        Fingerprint::keyed(&[0; 32], command, fields)
    }

    /// The same under a secret, for a fingerprint that leaves the database or that is compared beyond one key.
    ///
    /// Each field stands behind its length, so that no two lists of fields write the same bytes. The input is gathered
    /// before it is hashed: most are under 200 bytes, and one update of BLAKE3 is cheaper than ten.
    pub fn keyed(secret: &[u8; 32], command: &str, fields: &[&[u8]]) -> Self {
        let mut input = Vec::with_capacity(256);
        let mut write = |field: &[u8]| {
            let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
            input.extend_from_slice(&length.to_le_bytes());
            input.extend_from_slice(field);
        };
        write(command.as_bytes());
        write(&[VERSION]);
        fields.iter().for_each(|field| write(field));
        let hash = blake3::keyed_hash(secret, &input);
        Fingerprint(hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default())
    }

    /// Wraps 16 bytes of a database.
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
    fn fields_do_not_run_together() {
        let all = [
            Fingerprint::of_fields("refund", &[b"ab", b"c"]),
            Fingerprint::of_fields("refund", &[b"a", b"bc"]),
            Fingerprint::of_fields("refund", &[b"abc"]),
            Fingerprint::of_fields("refunda", &[b"bc"]),
            Fingerprint::of_fields("refund", &[]),
            Fingerprint::keyed(&[1; 32], "refund", &[]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| other != one), "{at}");
        }
    }

    /// Computed by another program, with Python's `blake3`. They are in databases: if they change, every open retry looks like misuse.
    #[test]
    fn golden() {
        let hex = |fingerprint: Fingerprint| fingerprint.as_bytes().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex(Fingerprint::of_fields("refund", &[b"ab", b"c"])), "bb2b9f77dbf1bb193bbfdd78a7d96a94");
        assert_eq!(
            hex(Fingerprint::keyed(&[7; 32], "rushgate place", &[b"sale", &42_i64.to_le_bytes()])),
            "258d0506907efdf414831b4d3727229b"
        );
    }
}
