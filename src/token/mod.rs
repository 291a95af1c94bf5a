//! Purchase tokens: signed proofs that a user may place one order in a sale. A token *is* its operation: whoever sends
//! it twice sends one order twice, so nothing about it is ever stored.
//!
//! It decides nothing but whether a text is a token of ours; it does no I/O, reads no clock and draws no number. The
//! engine calls it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::UnixMs;
use crate::limits;
use crate::order::{Sale, UserId};

/// The layout of tokens that are issued now. Before the MAC stand: version 1, user 8, expires_at 8, id 16, and the rest
/// is the sale's id. In base64 for URLs, without padding.
const VERSION: u8 = 1;
const MAC_BYTES: usize = blake3::OUT_LEN;

/// What keys are derived for. Changing a text makes every token of before a forged one.
const OF_A_SECRET: &str = "rushgate 2026 purchase token, key of a configured secret";
const OF_A_SALE: &str = "rushgate 2026 purchase token, key of a sale";

/// Issues tokens and recognises them.
#[derive(Clone, Default)]
pub struct PurchaseTokens {
    /// The first signs, all verify. If there are none, each sale has a key of its own, derived from its salt, which all
    /// engines of a ledger know.
    keys: Vec<[u8; 32]>,
}

/// What a token that we issued to this user for this sale says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The number that was drawn for it: it identifies the operation.
    pub id: [u8; 16],
    /// From then on it makes no new order. The one that it made is still answered.
    pub expires_at: UnixMs,
}

impl PurchaseTokens {
    /// Tokens signed with the first of `secrets` and recognised by all of them, so that a secret can be replaced while
    /// tokens are about. Without any, each sale has a key of its own.
    pub fn new<S: AsRef<str>>(secrets: &[S]) -> Self {
        let key = |secret: &S| blake3::derive_key(OF_A_SECRET, secret.as_ref().as_bytes());
        PurchaseTokens { keys: secrets.iter().map(key).collect() }
    }

    /// A token for one order of `user` in `sale`. `id` must be drawn at random for each.
    pub fn issue(&self, sale: &Sale, user: UserId, expires_at: UnixMs, id: [u8; 16]) -> String {
        let mut token = vec![VERSION];
        token.extend_from_slice(&user.get().to_be_bytes());
        token.extend_from_slice(&expires_at.to_be_bytes());
        token.extend_from_slice(&id);
        token.extend_from_slice(sale.id.as_str().as_bytes());
        let key = self.keys.first().copied().unwrap_or_else(|| key_of(sale));
        token.extend_from_slice(mac(&key, sale, &token).as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// What `text` says, if it is a token that was issued to this user for this sale, expired or not.
    pub fn verify(&self, text: &str, sale: &Sale, user: UserId) -> Option<VerifiedToken> {
        // Before any work: a client that sends nonsense costs next to nothing.
        if text.len() > limits::PURCHASE_TOKEN_CHARS_MAX {
            return None;
        }
        // Strict: of the spellings that decode to the same bytes, one is a token.
        let token = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, signature) = token.split_at_checked(token.len().checked_sub(MAC_BYTES)?)?;
        let signature = blake3::Hash::from_slice(signature).ok()?;
        // Hashes compare in constant time.
        let is_ours = match self.keys.as_slice() {
            [] => mac(&key_of(sale), sale, said) == signature,
            keys => keys.iter().any(|key| mac(key, sale, said) == signature),
        };
        if !is_ours {
            return None;
        }
        let (version, rest) = said.split_first()?;
        let (whose, rest) = rest.split_first_chunk::<8>()?;
        let (expires_at, rest) = rest.split_first_chunk::<8>()?;
        let (id, sale_id) = rest.split_first_chunk::<16>()?;
        let is_for_this =
            *version == VERSION && i64::from_be_bytes(*whose) == user.get() && sale_id == sale.id.as_str().as_bytes();
        is_for_this.then_some(VerifiedToken { id: *id, expires_at: UnixMs::from_be_bytes(*expires_at) })
    }
}

/// Says how many keys there are, and none of them.
impl fmt::Debug for PurchaseTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PurchaseTokens({} keys)", self.keys.len())
    }
}

fn key_of(sale: &Sale) -> [u8; 32] {
    blake3::derive_key(OF_A_SALE, sale.salt.as_bytes())
}

/// The salt is part of what is signed: two ledgers may have sales of one name and share a secret.
fn mac(key: &[u8; 32], sale: &Sale, said: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(sale.salt.as_bytes()).update(said);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
