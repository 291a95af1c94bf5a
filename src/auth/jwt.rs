//! A signed token (RFC 7519) as `Authorization: Bearer`, in the compact form of RFC 7515.
//!
//! The settings say how tokens are signed, the token does not: its `alg` must be the one that is set. Nothing of the
//! payload is read before the signature is found good.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap};

use super::claims::ClaimMembers;
use super::error::InvalidToken;
use super::jwt_keys::Keys;
use crate::http::single;
use crate::limits;
use crate::order::UserId;

const SCHEME: &[u8] = b"Bearer ";

/// Checks tokens.
pub struct Jwt {
    keys: Keys,
    /// What `iss` must be, if anything.
    issuer: Option<String>,
    /// What `aud` must be or hold, if anything.
    audience: Option<String>,
}

impl Jwt {
    /// Takes tokens signed with one of `keys`, and, if they are given, from this issuer and for this audience.
    pub fn new(keys: Keys, issuer: Option<String>, audience: Option<String>) -> Self {
        Jwt { keys, issuer, audience }
    }

    /// The user of the token in `headers` at this time, in seconds since 1970.
    pub(super) fn user(&self, headers: &HeaderMap, now_s: i64) -> Result<UserId, InvalidToken> {
        let payload = self.signed_payload(token(headers)?)?;
        let claims = ClaimMembers::read(&payload).ok_or(InvalidToken::Claims)?;
        claims.valid_at(now_s)?;
        if self.issuer.as_deref().is_some_and(|issuer| claims.text("iss") != Some(issuer)) {
            return Err(InvalidToken::Issuer);
        }
        if self.audience.as_deref().is_some_and(|audience| !claims.is_for(audience)) {
            return Err(InvalidToken::Audience);
        }
        claims.user()
    }

    /// The payload of a token whose signature is good.
    fn signed_payload(&self, token: &[u8]) -> Result<Vec<u8>, InvalidToken> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(InvalidToken::TooLong);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidToken::Malformed);
        };
        // Which key it was (`kid`) is not asked: the few there are are all tried.
        let header = ClaimMembers::read(&decoded(head)?).ok_or(InvalidToken::Malformed)?;
        if header.text("alg") != Some(self.keys.algorithm().as_str()) {
            return Err(InvalidToken::Algorithm);
        }
        if header.has("crit") {
            return Err(InvalidToken::Critical);
        }
        let signed = token.get(..head.len() + 1 + payload.len()).unwrap_or_default();
        if !self.keys.verify(signed, &decoded(signature)?) {
            return Err(InvalidToken::Signature);
        }
        decoded(payload)
    }
}

/// The token of the one `Authorization` line.
fn token(headers: &HeaderMap) -> Result<&[u8], InvalidToken> {
    let Ok(Some(line)) = single(headers, header::AUTHORIZATION) else { return Err(InvalidToken::Missing) };
    match line.as_bytes().split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(token),
        _ => Err(InvalidToken::Missing),
    }
}

/// Base64 for addresses, without padding; one text for one value, so that no two tokens are the same.
fn decoded(part: &[u8]) -> Result<Vec<u8>, InvalidToken> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidToken::Malformed)
}

#[cfg(test)]
pub(super) mod tests;
