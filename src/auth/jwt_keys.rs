//! The keys that verify tokens: secrets shared with the issuer, or public keys from a PEM file.

use ring::hmac;
use ring::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::pem::{PemObject, SectionKind};

use crate::{limits, spki};

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: a party that can verify a token can make one.
    Hs256,
    /// Ed25519.
    EdDsa,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
}

/// One or several keys of one algorithm, all of them good.
pub struct Keys(KeyMaterial);

enum KeyMaterial {
    Secrets(Vec<hmac::Key>),
    Public(Algorithm, Vec<UnparsedPublicKey<Vec<u8>>>),
}

/// Why something is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// None at all.
    #[error("there is no key")]
    None,
    /// More than [`limits::ACTIVE_KEYS_MAX`].
    #[error("there are more than {} keys", limits::ACTIVE_KEYS_MAX)]
    TooMany,
    /// A secret outside [`limits::TOKEN_SECRET_BYTES`].
    #[error("each secret must have {} to {} bytes", limits::TOKEN_SECRET_BYTES.start(), limits::TOKEN_SECRET_BYTES.end())]
    Secret,
    /// Something that only looks like PEM.
    #[error("it is not PEM")]
    Pem,
    /// A section of another kind.
    #[error("it holds something that is no public key; `openssl pkey -pubout` makes one of a private key")]
    Section,
    /// A key for another algorithm.
    #[error("a key is of another kind than auth.jwt_algorithm asks for")]
    Kind,
    /// An RSA key outside [`limits::RSA_BITS`].
    #[error("an RSA key must have {} to {} bits", limits::RSA_BITS.start(), limits::RSA_BITS.end())]
    RsaBits,
}

impl Algorithm {
    /// Every algorithm that can be set.
    pub const ALL: [Algorithm; 3] = [Algorithm::Hs256, Algorithm::EdDsa, Algorithm::Rs256];

    /// The `alg` of a token (RFC 7518, RFC 8037).
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Rs256 => "RS256",
        }
    }
}

impl Keys {
    /// Keys for HS256 out of secrets separated by commas; a secret is the bytes of the text as it stands.
    pub fn from_secrets(text: &str) -> Result<Self, InvalidKeys> {
        if text.is_empty() {
            return Err(InvalidKeys::None);
        }
        Keys::of_secrets(text.split(',').map(str::as_bytes))
    }

    pub(super) fn of_secrets<'s>(secrets: impl Iterator<Item = &'s [u8]>) -> Result<Self, InvalidKeys> {
        let one = |secret: &[u8]| {
            let fits = limits::TOKEN_SECRET_BYTES.contains(&secret.len());
            if fits { Ok(hmac::Key::new(hmac::HMAC_SHA256, secret)) } else { Err(InvalidKeys::Secret) }
        };
        Ok(Keys(KeyMaterial::Secrets(few(secrets.map(one).collect::<Result<_, _>>()?)?)))
    }

    /// Keys for EdDSA or RS256 out of a PEM file with one or several `PUBLIC KEY` sections.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, InvalidKeys> {
        let verifier: &'static dyn VerificationAlgorithm = match algorithm {
            Algorithm::Hs256 => return Err(InvalidKeys::Kind),
            Algorithm::EdDsa => &ED25519,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        };
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            match section.map_err(|_| InvalidKeys::Pem)? {
                (SectionKind::PublicKey, der) => {
                    let key = public_key(algorithm, &der)?;
                    keys.push(UnparsedPublicKey::new(verifier, key.to_vec()));
                }
                _ => return Err(InvalidKeys::Section),
            }
        }
        Ok(Keys(KeyMaterial::Public(algorithm, few(keys)?)))
    }

    /// What the keys are for.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            KeyMaterial::Secrets(_) => Algorithm::Hs256,
            KeyMaterial::Public(algorithm, _) => *algorithm,
        }
    }

    /// Whether one of the keys made this signature of the message.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            KeyMaterial::Secrets(keys) => keys.iter().any(|key| hmac::verify(key, message, signature).is_ok()),
            KeyMaterial::Public(_, keys) => keys.iter().any(|key| key.verify(message, signature).is_ok()),
        }
    }
}

fn few<K>(keys: Vec<K>) -> Result<Vec<K>, InvalidKeys> {
    match keys.len() {
        0 => Err(InvalidKeys::None),
        1..=limits::ACTIVE_KEYS_MAX => Ok(keys),
        _ => Err(InvalidKeys::TooMany),
    }
}

/// The AlgorithmIdentifier of an Ed25519 key: 1.3.101.112 (RFC 8410).
const IS_ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
/// The AlgorithmIdentifier of an RSA key: 1.2.840.113549.1.1.1 and NULL (RFC 8017).
const IS_RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The bare key out of a SubjectPublicKeyInfo.
fn public_key(algorithm: Algorithm, der: &[u8]) -> Result<&[u8], InvalidKeys> {
    let (kind, key) = spki::split(der).ok_or(InvalidKeys::Pem)?;
    match algorithm {
        Algorithm::EdDsa if kind == IS_ED25519 && key.len() == ring::signature::ED25519_PUBLIC_KEY_LEN => Ok(key),
        Algorithm::Rs256 if kind == IS_RSA => {
            let bits = spki::rsa_bits(key).ok_or(InvalidKeys::Pem)?;
            if limits::RSA_BITS.contains(&bits) { Ok(key) } else { Err(InvalidKeys::RsaBits) }
        }
        _ => Err(InvalidKeys::Kind),
    }
}

#[cfg(test)]
mod tests;
