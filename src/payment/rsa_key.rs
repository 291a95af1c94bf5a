//! Public keys of payment providers: RSA, from a PEM text (keys or certificates) or from the bare base64 that Alipay shows.
//!
//! A certificate counts for the key in it: the operator who put the file there vouches for it, so neither its issuer nor
//! its dates matter.

use std::borrow::Borrow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject, SectionKind};
use webpki::EndEntityCert;

use crate::{limits, spki};

/// An RSA public key of [`limits::RSA_BITS`].
#[derive(Clone)]
pub struct PublicKey {
    /// As PKCS #1 writes it, in DER.
    pkcs1: Vec<u8>,
    /// Serial number of the certificate it came in, in capital hex digits.
    serial: Option<String>,
}

/// A text that holds no usable public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPublicKey {
    /// Neither PEM nor base64, or nothing in it.
    #[error("holds no public key: neither PEM of a PUBLIC KEY or a CERTIFICATE, nor base64")]
    Unreadable,
    /// A private key, which does not belong here.
    #[error("holds a private key; the provider's public key belongs here")]
    Private,
    /// Not a key for RSA.
    #[error("holds a key that is not RSA")]
    NotRsa,
    /// Too short to be safe, or too long to be real.
    #[error(
        "holds an RSA key of {0} bits; {least} to {most} are taken",
        least = limits::RSA_BITS.start(),
        most = limits::RSA_BITS.end()
    )]
    Size(usize),
    /// More than [`limits::PUBLIC_KEYS_MAX`].
    #[error("holds more than {} keys", limits::PUBLIC_KEYS_MAX)]
    TooMany,
}

impl PublicKey {
    /// Every key in `text`, at least one.
    pub fn read_all(text: &[u8]) -> Result<Vec<PublicKey>, InvalidPublicKey> {
        let keys = if text.windows(5).any(|window| window == b"-----") {
            let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(text);
            let key = |section: Result<(SectionKind, Vec<u8>), _>| {
                let (kind, der) = section.map_err(|_| InvalidPublicKey::Unreadable)?;
                PublicKey::of_section(kind, &der)
            };
            sections.map(key).collect::<Result<Vec<PublicKey>, InvalidPublicKey>>()?
        } else {
            let bare: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let spki = STANDARD.decode(bare).map_err(|_| InvalidPublicKey::Unreadable)?;
            vec![PublicKey::of_spki(&spki, None)?]
        };
        match keys.len() {
            0 => Err(InvalidPublicKey::Unreadable),
            1..=limits::PUBLIC_KEYS_MAX => Ok(keys),
            _ => Err(InvalidPublicKey::TooMany),
        }
    }

    /// Serial number of the certificate that the key came in, in capital hex digits.
    pub fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    fn of_section(kind: SectionKind, der: &[u8]) -> Result<PublicKey, InvalidPublicKey> {
        match kind {
            SectionKind::PublicKey => PublicKey::of_spki(der, None),
            SectionKind::Certificate => {
                let der = CertificateDer::from(der);
                let certificate = EndEntityCert::try_from(&der).map_err(|_| InvalidPublicKey::Unreadable)?;
                let hex = certificate.serial().iter().skip_while(|byte| **byte == 0).map(|byte| format!("{byte:02X}"));
                PublicKey::of_spki(&certificate.subject_public_key_info(), Some(hex.collect()))
            }
            SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                Err(InvalidPublicKey::Private)
            }
            _ => Err(InvalidPublicKey::Unreadable),
        }
    }

    /// Takes the key out of a SubjectPublicKeyInfo (RFC 5280, section 4.1) and measures it.
    fn of_spki(spki: &[u8], serial: Option<String>) -> Result<PublicKey, InvalidPublicKey> {
        let (algorithm, pkcs1) = spki::split(spki).ok_or(InvalidPublicKey::Unreadable)?;
        if algorithm != rustls_pki_types::alg_id::RSA_ENCRYPTION.as_ref() {
            return Err(InvalidPublicKey::NotRsa);
        }
        let bits = spki::rsa_bits(pkcs1).ok_or(InvalidPublicKey::Unreadable)?;
        if !limits::RSA_BITS.contains(&bits) {
            return Err(InvalidPublicKey::Size(bits));
        }
        Ok(PublicKey { pkcs1: pkcs1.to_vec(), serial })
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.pkcs1).verify(message, signature).is_ok()
    }
}

/// Whether one of `keys` has signed `message` with RSA (PKCS #1 v1.5) and SHA-256. Nothing in it is secret.
pub(super) fn any_has_signed<K: Borrow<PublicKey>>(
    keys: impl IntoIterator<Item = K>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    keys.into_iter().any(|key| key.borrow().has_signed(message, signature))
}

#[cfg(test)]
mod tests;
