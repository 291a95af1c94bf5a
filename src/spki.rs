//! A public key out of its SubjectPublicKeyInfo (RFC 5280, section 4.1): as much of DER as RSA and Ed25519 need.

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// The AlgorithmIdentifier and the bare key; `None` if it is not one whole SubjectPublicKeyInfo.
pub fn split(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let (info, after) = element(SEQUENCE, info)?;
    let (algorithm, rest) = element(SEQUENCE, info)?;
    let (bits, behind) = element(BIT_STRING, rest)?;
    // The first byte says how many bits of the last one do not count.
    let key = bits.strip_prefix(&[0])?;
    (after.is_empty() && behind.is_empty()).then_some((algorithm, key))
}

/// How long the modulus of an RSAPublicKey (RFC 8017, appendix A.1.1) is, in bits.
pub fn rsa_bits(key: &[u8]) -> Option<usize> {
    let (key, after) = element(SEQUENCE, key)?;
    let (modulus, rest) = element(INTEGER, key)?;
    let (_exponent, behind) = element(INTEGER, rest)?;
    let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
    let unused = usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    (after.is_empty() && behind.is_empty()).then_some(modulus.len() * 8 - unused)
}

/// The value of the first element of `input`, which must have this tag, and what follows it. A length that is longer than
/// it need be is refused, as DER has it.
fn element(tag: u8, input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match input.strip_prefix(&[tag])? {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}
