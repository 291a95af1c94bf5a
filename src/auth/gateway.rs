//! A user's id in `X-User-Id`: from a trusted proxy it is a proof, from anyone else at most a claim.

use http::header::HeaderMap;

use crate::http::{Repeated, single};
use crate::order::{Code, Refusal, UserId};

pub(super) const USER: &str = "x-user-id";

/// The user in the header; `None` if there is no such line.
pub(super) fn user(headers: &HeaderMap) -> Result<Option<UserId>, Refusal> {
    let refusal = || Refusal::because(Code::Unauthenticated, "X-User-Id must be one integer from 1 to 2^63 - 1");
    let Some(line) = single(headers, USER).map_err(|Repeated| refusal())? else { return Ok(None) };
    let text = line.to_str().map_err(|_| refusal())?;
    UserId::parse(text).map(Some).map_err(|_| refusal())
}

/// The user that a proxy names, if the proxy is trusted.
pub(super) fn proven(headers: &HeaderMap, is_trusted: bool) -> Result<UserId, Refusal> {
    if !is_trusted {
        return Err(Refusal::because(Code::Unauthenticated, "this server is asked through its gateway only"));
    }
    user(headers)?.ok_or_else(|| Refusal::because(Code::Unauthenticated, "the gateway sent no X-User-Id"))
}
