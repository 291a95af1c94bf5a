//! Who is asking, in each mode.

use super::gateway::USER;
use super::*;

fn user(n: u64) -> UserId {
    UserId::new(n).unwrap()
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn asks(mode: Mode, peer: &str, lines: &[(&'static str, &str)], member: Option<u64>) -> Result<UserId, Code> {
    let authenticator = Authenticator::new(mode, Proxies::parse("10.0.0.0/8").unwrap(), Clock::manual(0));
    let caller = authenticator.caller(peer.parse().unwrap(), &headers(lines));
    caller.and_then(|caller| caller.user(member)).map_err(|refusal| refusal.code)
}

#[test]
fn without_authentication_header_and_body_name_one_user() {
    let code = |lines: &[(&'static str, &str)], member| asks(Mode::None, "192.0.2.1", lines, member);
    assert_eq!(code(&[(USER, "42")], None), Ok(user(42)));
    assert_eq!(code(&[], Some(42)), Ok(user(42)));
    assert_eq!(code(&[(USER, "42")], Some(42)), Ok(user(42)));
    assert_eq!(code(&[(USER, "42")], Some(43)), Err(Code::Forbidden));
    assert_eq!(code(&[(USER, "x")], Some(42)), Err(Code::Unauthenticated));
    assert_eq!(code(&[], None), Err(Code::Unauthenticated));
    assert_eq!(code(&[], Some(0)), Err(Code::MalformedRequest));
    assert_eq!(code(&[], Some(1 << 63)), Err(Code::MalformedRequest));
    assert_eq!(code(&[(USER, "42"), (USER, "42")], None), Err(Code::Unauthenticated));
}

#[test]
fn a_gateway_is_believed_and_nobody_else() {
    let code = |peer, lines: &[(&'static str, &str)], member| asks(Mode::Gateway, peer, lines, member);
    for ours in ["10.1.2.3", "::ffff:10.1.2.3"] {
        assert_eq!(code(ours, &[(USER, "42")], None), Ok(user(42)));
        assert_eq!(code(ours, &[(USER, "42")], Some(42)), Ok(user(42)));
        assert_eq!(code(ours, &[(USER, "42")], Some(43)), Err(Code::Forbidden));
        for bad in [&[][..], &[(USER, "")], &[(USER, "0")], &[(USER, "4 2")], &[(USER, "42"), (USER, "42")]] {
            assert_eq!(code(ours, bad, Some(42)), Err(Code::Unauthenticated), "{bad:?}");
        }
    }
    for other in ["192.0.2.1", "::1", "127.0.0.1"] {
        assert_eq!(code(other, &[(USER, "42")], Some(42)), Err(Code::Unauthenticated));
    }
    // What a client says of its way here is no proof of anything.
    let lines = [(USER, "42"), ("x-forwarded-for", "10.0.0.1")];
    assert_eq!(code("192.0.2.1", &lines, None), Err(Code::Unauthenticated));
}
