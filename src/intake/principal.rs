//! Who is asking. With `auth.mode: none` the client says so itself, which is why that mode is for loopback only.

use http::header::HeaderMap;

use crate::order::{Code, Refusal, UserId};

const USER: &str = "x-user-id";

/// The principal of a request, from `X-User-Id` or, failing that, the body's `user_id`.
pub(super) fn principal(headers: &HeaderMap, member: Option<u64>) -> Result<UserId, Refusal> {
    let header = from_header(headers)?;
    let member =
        match member {
            Some(number) => Some(UserId::new(number).map_err(|_| {
                Refusal::because(Code::MalformedRequest, "user_id must be an integer from 1 to 2^63 - 1")
            })?),
            None => None,
        };
    match (header, member) {
        (Some(header), Some(member)) if header != member => {
            Err(Refusal::because(Code::Forbidden, "user_id in the body is not the user who is asking"))
        }
        (Some(user), _) | (None, Some(user)) => Ok(user),
        (None, None) => Err(Refusal::because(Code::Unauthenticated, "send X-User-Id, or user_id in the body")),
    }
}

fn from_header(headers: &HeaderMap) -> Result<Option<UserId>, Refusal> {
    let mut lines = headers.get_all(USER).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let refusal = || Refusal::because(Code::Unauthenticated, "X-User-Id must be one integer from 1 to 2^63 - 1");
    if lines.next().is_some() {
        return Err(refusal());
    }
    let text = line.to_str().map_err(|_| refusal())?;
    UserId::parse(text).map(Some).map_err(|_| refusal())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_name_one_user() {
        let headers = |value: &str| HeaderMap::from_iter([(USER.parse().unwrap(), value.parse().unwrap())]);
        let none = HeaderMap::new();
        let code = |headers: &HeaderMap, member| principal(headers, member).map_err(|refusal| refusal.code);
        let user = UserId::new(42).unwrap();
        assert_eq!(code(&headers("42"), None), Ok(user));
        assert_eq!(code(&none, Some(42)), Ok(user));
        assert_eq!(code(&headers("42"), Some(42)), Ok(user));
        assert_eq!(code(&headers("42"), Some(43)), Err(Code::Forbidden));
        assert_eq!(code(&headers("x"), Some(42)), Err(Code::Unauthenticated));
        assert_eq!(code(&none, None), Err(Code::Unauthenticated));
        assert_eq!(code(&none, Some(0)), Err(Code::MalformedRequest));
        assert_eq!(code(&none, Some(1 << 63)), Err(Code::MalformedRequest));
        let mut two = headers("42");
        two.append(USER, "42".parse().unwrap());
        assert_eq!(code(&two, None), Err(Code::Unauthenticated));
    }
}
