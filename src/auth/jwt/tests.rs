//! Tokens that are good, and every way in which one is not.

use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::super::jwt_keys::Algorithm;
use super::*;

const NOW_S: i64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OLD_SECRET: &str = "an-older-secret-an-older-secret-";

// RFC 7515, appendix A.1.
const A1_TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const A1_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";

// RFC 7515, appendix A.2.
const A2_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4\
    BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv\
    hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A2_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ\
    S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD\
    Zlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

// RFC 8037, appendix A.
const ED_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
    hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const ED_SECRET: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const ED_KEY: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// One DER element.
pub(in crate::auth) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut element = vec![tag];
    match content.len() {
        short @ 0..=0x7f => element.push(u8::try_from(short).unwrap()),
        _ => {
            element.push(0x80 | u8::try_from(length.len()).unwrap());
            element.extend_from_slice(length);
        }
    }
    element.extend_from_slice(content);
    element
}

/// A `PUBLIC KEY` section, given the content of its AlgorithmIdentifier.
pub(in crate::auth) fn pem(kind: &[u8], key: &[u8]) -> String {
    let bits = [&[0], key].concat();
    let info = der(0x30, &[der(0x30, kind), der(0x03, &bits)].concat());
    let text = base64::engine::general_purpose::STANDARD.encode(info);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

/// The RSA key of RFC 7515, or one with another modulus.
pub(in crate::auth) fn rsa_pem(modulus: &[u8]) -> String {
    let modulus = der(0x02, &[&[0], modulus].concat());
    let key = der(0x30, &[modulus, der(0x02, &[1, 0, 1])].concat());
    pem(&[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00], &key)
}

pub(in crate::auth) fn rfc_rsa_pem() -> String {
    rsa_pem(&bytes(A2_MODULUS))
}

pub(in crate::auth) fn ed_pem(key: &[u8]) -> String {
    pem(&[0x06, 0x03, 0x2b, 0x65, 0x70], key)
}

pub(in crate::auth) fn rfc_ed_pem() -> String {
    ed_pem(&bytes(ED_KEY))
}

fn plain(keys: Keys) -> Jwt {
    Jwt::new(keys, None, None)
}

fn hs256() -> Jwt {
    plain(Keys::from_secrets(&format!("{SECRET},{OLD_SECRET}")).unwrap())
}

fn unsigned(header: &str, payload: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
}

fn hs256_raw(header: &str, payload: &str, secret: &[u8]) -> String {
    let unsigned = unsigned(header, payload);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), unsigned.as_bytes());
    format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signed(claims: &Value) -> String {
    hs256_raw(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET.as_bytes())
}

/// Good claims, with `members` set or, if null, left out.
fn claims(members: &Value) -> Value {
    let mut claims = json!({"sub": "42", "exp": NOW_S + 60});
    for (name, value) in members.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn bearer(lines: &[&str]) -> HeaderMap {
    HeaderMap::from_iter(lines.iter().map(|line| (header::AUTHORIZATION, line.parse().unwrap())))
}

fn user_of(jwt: &Jwt, token: &str) -> Result<i64, InvalidToken> {
    jwt.user(&bearer(&[&format!("Bearer {token}")]), NOW_S).map(UserId::get)
}

#[test]
fn the_examples_of_the_standards_are_good() {
    let json = b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
    let keys = Keys::of_secrets(std::iter::once(&*bytes(A1_KEY))).unwrap();
    assert_eq!(plain(keys).signed_payload(A1_TOKEN.as_bytes()).unwrap(), json);
    let keys = Keys::from_pem(Algorithm::Rs256, rfc_rsa_pem().as_bytes()).unwrap();
    assert_eq!(plain(keys).signed_payload(A2_TOKEN.as_bytes()).unwrap(), json);
    let keys = Keys::from_pem(Algorithm::EdDsa, rfc_ed_pem().as_bytes()).unwrap();
    assert_eq!(plain(keys).signed_payload(ED_TOKEN.as_bytes()).unwrap(), b"Example of Ed25519 signing");
}

#[test]
fn every_bit_and_every_byte_counts() {
    let keys = |pem: &str, algorithm| plain(Keys::from_pem(algorithm, pem.as_bytes()).unwrap());
    for (jwt, token) in [
        (hs256(), signed(&claims(&json!({})))),
        (keys(&rfc_ed_pem(), Algorithm::EdDsa), ED_TOKEN.to_owned()),
        (keys(&rfc_rsa_pem(), Algorithm::Rs256), A2_TOKEN.to_owned()),
    ] {
        let is_good = |token: &[u8]| jwt.signed_payload(token).is_ok();
        assert!(is_good(token.as_bytes()));
        for length in 0..token.len() {
            assert!(!is_good(&token.as_bytes()[..length]), "cut to {length}");
        }
        for at in 0..token.len() {
            for bit in 0..8 {
                let mut other = token.clone().into_bytes();
                other[at] ^= 1 << bit;
                assert!(!is_good(&other), "bit {bit} of byte {at}");
            }
        }
        for more in ["=", "A", ".", ".x", " ", "\n"] {
            assert!(!is_good(format!("{token}{more}").as_bytes()), "{more:?} at the end");
        }
    }
}

#[test]
fn the_algorithm_is_the_one_that_is_set() {
    let good = claims(&json!({})).to_string();
    let jwt = hs256();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":null}"#,
        r#"{"ALG":"HS256"}"#,
        "{}",
    ] {
        let signed = hs256_raw(header, &good, SECRET.as_bytes());
        assert_eq!(user_of(&jwt, &signed), Err(InvalidToken::Algorithm), "{header}");
        assert!(user_of(&jwt, &format!("{}.", unsigned(header, &good))).is_err(), "{header} without signature");
        assert!(user_of(&jwt, &unsigned(header, &good)).is_err(), "{header} in two parts");
    }
    assert_eq!(user_of(&jwt, &format!("{}.", unsigned(r#"{"alg":"HS256"}"#, &good))), Err(InvalidToken::Signature));
    // The public key is no secret: whoever signs with it signs nothing.
    for (algorithm, pem) in [(Algorithm::Rs256, rfc_rsa_pem()), (Algorithm::EdDsa, rfc_ed_pem())] {
        let jwt = plain(Keys::from_pem(algorithm, pem.as_bytes()).unwrap());
        let header = |alg: &str| json!({"alg": alg}).to_string();
        let swapped = hs256_raw(&header("HS256"), &good, pem.as_bytes());
        assert_eq!(user_of(&jwt, &swapped), Err(InvalidToken::Algorithm));
        let disguised = hs256_raw(&header(algorithm.as_str()), &good, pem.as_bytes());
        assert_eq!(user_of(&jwt, &disguised), Err(InvalidToken::Signature));
    }
}

#[test]
fn a_header_may_say_more_but_demand_nothing() {
    let good = claims(&json!({})).to_string();
    let token = |header: &str| user_of(&hs256(), &hs256_raw(header, &good, SECRET.as_bytes()));
    assert_eq!(token(r#"{"typ":"JWT","alg":"HS256","kid":"any","jku":"https://example.com"}"#), Ok(42));
    assert_eq!(token(r#"{"alg":"HS256","crit":["exp"]}"#), Err(InvalidToken::Critical));
    assert_eq!(token(r#"{"alg":"HS256","crit":[]}"#), Err(InvalidToken::Critical));
    assert_eq!(token(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#), Err(InvalidToken::Critical));
    for bad in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","al\u0067":"none"}"#,
        r#"{"kid":1,"kid":2,"alg":"HS256"}"#,
        r#"["HS256"]"#,
        r#"{"alg":"HS256"} x"#,
        "",
    ] {
        assert_eq!(token(bad), Err(InvalidToken::Malformed), "{bad}");
    }
}

#[test]
fn a_token_is_valid_for_a_time() {
    use InvalidToken::{Expired, NoExpiry, NotYetValid, Time};
    let leeway = limits::TOKEN_LEEWAY_S;
    let at = |from_now_s: i64| f64::from(i32::try_from(NOW_S + from_now_s).unwrap());
    let table = [
        (json!({"exp": NOW_S + 1}), Ok(42)),
        (json!({"exp": NOW_S}), Err(Expired)),
        (json!({"exp": NOW_S - 1}), Err(Expired)),
        (json!({"exp": NOW_S - 3600}), Err(Expired)),
        (json!({"exp": 0}), Err(Expired)),
        (json!({"exp": -1}), Err(Time)),
        (json!({"exp": -0.5}), Err(Time)),
        (json!({"exp": i64::MIN}), Err(Time)),
        (json!({"exp": i64::MAX}), Ok(42)),
        (json!({"exp": null}), Err(NoExpiry)),
        (json!({"exp": u64::MAX}), Err(Time)),
        (json!({"exp": 1e30}), Err(Time)),
        (json!({"exp": 2e9}), Ok(42)),
        (json!({"exp": at(1) + 0.5}), Ok(42)),
        (json!({"exp": at(0) + 0.999}), Err(Expired)),
        (json!({"exp": 0.5}), Err(Expired)),
        (json!({"nbf": at(leeway) - 0.5}), Ok(42)),
        (json!({"nbf": at(leeway) + 0.001}), Err(NotYetValid)),
        (json!({"nbf": 1e30}), Err(Time)),
        (json!({"nbf": -1}), Err(Time)),
        (json!({"exp": "1900000000"}), Err(Time)),
        (json!({"nbf": NOW_S}), Ok(42)),
        (json!({"nbf": 0}), Ok(42)),
        (json!({"nbf": NOW_S + leeway}), Ok(42)),
        (json!({"nbf": NOW_S + leeway + 1}), Err(NotYetValid)),
        (json!({"nbf": i64::MAX}), Err(NotYetValid)),
        (json!({"nbf": "0"}), Err(Time)),
        (json!({"iat": NOW_S + 9999, "jti": "x", "scope": {"a": [1]}}), Ok(42)),
    ];
    for (members, want) in table {
        assert_eq!(user_of(&hs256(), &signed(&claims(&members))), want, "{members}");
    }
}

#[test]
fn a_subject_is_a_user_id() {
    for (sub, want) in [
        (json!("1"), Some(1)),
        (json!(1), Some(1)),
        (json!("9223372036854775807"), Some(i64::MAX)),
        (json!(i64::MAX), Some(i64::MAX)),
        (json!(null), None),
        (json!(""), None),
        (json!("0"), None),
        (json!(0), None),
        (json!("-1"), None),
        (json!(-1), None),
        (json!("042"), None),
        (json!("+42"), None),
        (json!(" 42"), None),
        (json!("4.2e1"), None),
        (json!(42.0), None),
        (json!("9223372036854775808"), None),
        (json!(1_u64 << 63), None),
        (json!(u64::MAX), None),
        (json!("alice"), None),
        (json!(["42"]), None),
        (json!(true), None),
    ] {
        let got = user_of(&hs256(), &signed(&claims(&json!({"sub": sub}))));
        assert_eq!(got, want.ok_or(InvalidToken::Subject), "{sub}");
    }
    for twice in [
        format!(r#"{{"sub":"42","sub":"42","exp":{}}}"#, NOW_S + 60),
        format!(r#"{{"sub":"42","s\u0075b":"43","exp":{}}}"#, NOW_S + 60),
        format!(r#"{{"sub":"42","exp":{0},"exp":{0}}}"#, NOW_S + 60),
        format!(r#"{{"sub":"42","exp":{},"x":1,"x":2}}"#, NOW_S + 60),
        format!(r#"{{"sub":"42","exp":{}}}{{}}"#, NOW_S + 60),
        r#""42""#.to_owned(),
        "[".repeat(3000),
    ] {
        let token = hs256_raw(r#"{"alg":"HS256"}"#, &twice, SECRET.as_bytes());
        assert_eq!(user_of(&hs256(), &token), Err(InvalidToken::Claims), "{twice}");
    }
}

#[test]
fn issuer_and_audience_are_asked_for_where_they_are_set() {
    let keys = || Keys::from_secrets(SECRET).unwrap();
    let strict = Jwt::new(keys(), Some("https://id.example".to_owned()), Some("rushgate".to_owned()));
    let table = [
        (json!({"iss": "https://id.example", "aud": "rushgate"}), Ok(42)),
        (json!({"iss": "https://id.example", "aud": ["other", "rushgate"]}), Ok(42)),
        (json!({"iss": "https://id.example/", "aud": "rushgate"}), Err(InvalidToken::Issuer)),
        (json!({"aud": "rushgate"}), Err(InvalidToken::Issuer)),
        (json!({"iss": ["https://id.example"], "aud": "rushgate"}), Err(InvalidToken::Issuer)),
        (json!({"iss": "https://id.example"}), Err(InvalidToken::Audience)),
        (json!({"iss": "https://id.example", "aud": "Rushgate"}), Err(InvalidToken::Audience)),
        (json!({"iss": "https://id.example", "aud": []}), Err(InvalidToken::Audience)),
        (json!({"iss": "https://id.example", "aud": [["rushgate"]]}), Err(InvalidToken::Audience)),
        (json!({"iss": "https://id.example", "aud": {"rushgate": 1}}), Err(InvalidToken::Audience)),
    ];
    for (members, want) in table {
        assert_eq!(user_of(&strict, &signed(&claims(&members))), want, "{members}");
        assert_eq!(user_of(&hs256(), &signed(&claims(&members))), Ok(42), "{members}");
    }
}

#[test]
fn two_keys_are_valid_while_one_replaces_the_other() {
    let good = claims(&json!({})).to_string();
    let by = |secret: &str| user_of(&hs256(), &hs256_raw(r#"{"alg":"HS256"}"#, &good, secret.as_bytes()));
    assert_eq!((by(SECRET), by(OLD_SECRET)), (Ok(42), Ok(42)));
    assert_eq!(by("another-secret-another-secret-32"), Err(InvalidToken::Signature));
    assert_eq!(by(&format!("{SECRET},{OLD_SECRET}")), Err(InvalidToken::Signature));

    let pair = |seed: &[u8]| Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    let (first, second) = (pair(&bytes(ED_SECRET)), pair(&[7; 32]));
    assert_eq!(first.public_key().as_ref(), bytes(ED_KEY));
    let pem = format!("old\n{}\nnew\n{}", rfc_ed_pem(), ed_pem(second.public_key().as_ref()));
    let jwt = plain(Keys::from_pem(Algorithm::EdDsa, pem.as_bytes()).unwrap());
    let by = |pair: &Ed25519KeyPair| {
        let unsigned = unsigned(r#"{"alg":"EdDSA"}"#, &good);
        let signature = URL_SAFE_NO_PAD.encode(pair.sign(unsigned.as_bytes()));
        user_of(&jwt, &format!("{unsigned}.{signature}"))
    };
    assert_eq!((by(&first), by(&second)), (Ok(42), Ok(42)));
    assert_eq!(by(&pair(&[8; 32])), Err(InvalidToken::Signature));
}

#[test]
fn there_is_one_authorization_line_with_a_bearer_token() {
    let token = signed(&claims(&json!({})));
    let user = |lines: &[&str]| hs256().user(&bearer(lines), NOW_S).map(UserId::get);
    let with = |scheme: &str| format!("{scheme}{token}");
    for scheme in ["Bearer ", "bearer ", "BEARER "] {
        assert_eq!(user(&[&with(scheme)]), Ok(42), "{scheme}");
    }
    assert_eq!(user(&[]), Err(InvalidToken::Missing));
    assert_eq!(user(&[&with("Bearer "), &with("Bearer ")]), Err(InvalidToken::Missing));
    for bad in ["", "Bearer", "Basic dTpw", &with(""), &with("Bearer"), &with("Token "), &with("Basic ")] {
        assert_eq!(user(&[bad]), Err(InvalidToken::Missing), "{bad}");
    }
    for bad in
        ["Bearer ".to_owned(), with("Bearer  "), format!("Bearer {token}, {token}"), format!("Bearer \"{token}\"")]
    {
        assert_eq!(user(&[&bad]), Err(InvalidToken::Malformed), "{bad}");
    }
}

#[test]
fn a_long_token_is_not_even_looked_at() {
    let padded = |n: usize| signed(&claims(&json!({"pad": "x".repeat(n)})));
    let mut fits = limits::TOKEN_BYTES_MAX / 2;
    while padded(fits + 1).len() <= limits::TOKEN_BYTES_MAX {
        fits += 1;
    }
    assert_eq!(user_of(&hs256(), &padded(fits)), Ok(42));
    assert_eq!(user_of(&hs256(), &padded(fits + 1)), Err(InvalidToken::TooLong));
    assert_eq!(user_of(&hs256(), &".".repeat(20_000)), Err(InvalidToken::TooLong));
}
