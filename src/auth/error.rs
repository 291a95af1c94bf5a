//! Why a token is refused.

/// Why a token is refused. The texts go to the client, and repeat nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidToken {
    #[error("send one Authorization header with a Bearer token")]
    Missing,
    #[error("the token is too long")]
    TooLong,
    #[error("the token is not a signed JWT in the compact form")]
    Malformed,
    #[error("the claims of the token are not one JSON object with each member once")]
    Claims,
    #[error("exp and nbf of the token must be seconds since 1970, as numbers")]
    Time,
    #[error("the token is signed in another way than this server takes")]
    Algorithm,
    #[error("the token makes demands (crit) that this server does not know")]
    Critical,
    #[error("the signature of the token is not good")]
    Signature,
    #[error("the token does not say when it expires (exp)")]
    NoExpiry,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token names no user: sub must be an integer from 1 to 2^63 - 1")]
    Subject,
}
