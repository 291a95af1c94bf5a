//! Standard Webhooks: the published vector, forgeries, and what events may look like.

use super::*;
use crate::payment::tests::{NOW_MS, NOW_S, ORDER_NO, headers, is_unproven, one_bit_off};

/// Secret, message and signature that the reference libraries of Standard Webhooks test with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const TIMESTAMP: &str = "1614265330";
const BODY: &[u8] = b"{\"test\": 2432232314}";
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(&secret["whsec_".len()..]).unwrap();
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &message);
    format!("v1,{}", STANDARD.encode(tag))
}

/// Sends a body, properly signed.
fn receive(body: &[u8]) -> Result<Report, NotVerified> {
    let timestamp = NOW_S.to_string();
    let signature = sign(SECRET, "evt_1", &timestamp, body);
    let lines = [("webhook-id", "evt_1"), ("webhook-timestamp", &timestamp), ("webhook-signature", &signature)];
    Standard::new(SECRET).unwrap().verify(&headers(&lines), body, NOW_MS)
}

#[test]
fn the_published_vector() {
    let standard = Standard::new(SECRET).unwrap();
    assert!(standard.has_signed(ID, TIMESTAMP, BODY, SIGNATURE));
    let lines = [("webhook-id", ID), ("webhook-timestamp", TIMESTAMP), ("webhook-signature", SIGNATURE)];
    // Its body is no event, which is told only of what is signed.
    let verified = standard.verify(&headers(&lines), BODY, 1_614_265_330_000);
    assert!(matches!(verified, Err(NotVerified::Malformed(_))), "{verified:?}");
    let late = standard.verify(&headers(&lines), BODY, 1_614_265_330_000 + 301_000);
    assert!(is_unproven(&late), "{late:?}");
}

#[test]
fn every_bit_counts() {
    let standard = Standard::new(SECRET).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    for body in one_bit_off(BODY) {
        assert!(!standard.has_signed(ID, TIMESTAMP, &body, SIGNATURE), "{body:?}");
    }
    for id in one_bit_off(ID.as_bytes()).filter_map(text) {
        assert!(!standard.has_signed(&id, TIMESTAMP, BODY, SIGNATURE), "{id}");
    }
    for timestamp in one_bit_off(TIMESTAMP.as_bytes()).filter_map(text) {
        assert!(!standard.has_signed(ID, &timestamp, BODY, SIGNATURE), "{timestamp}");
    }
    for signature in one_bit_off(SIGNATURE.as_bytes()).filter_map(text) {
        assert!(!standard.has_signed(ID, TIMESTAMP, BODY, &signature), "{signature}");
    }
    for length in 0..SIGNATURE.len() {
        assert!(!standard.has_signed(ID, TIMESTAMP, BODY, &SIGNATURE[..length]), "{length}");
    }
}

#[test]
fn any_v1_signature_of_the_list_and_any_active_secret() {
    let (first, second) = (Standard::new(SECRET).unwrap(), Standard::new(OTHER).unwrap());
    let both = Standard::new(&format!("{OTHER}, {SECRET}")).unwrap();
    let other = sign(OTHER, ID, TIMESTAMP, BODY);
    let is_good = |standard: &Standard, list: &str| standard.has_signed(ID, TIMESTAMP, BODY, list);
    assert!(is_good(&both, SIGNATURE) && is_good(&both, &other));
    assert!(!is_good(&first, &other) && !is_good(&second, SIGNATURE));
    let wrong = format!("v1,{}", STANDARD.encode([7; 32]));
    for list in [
        format!("{SIGNATURE} {wrong}"),
        format!("{wrong} {SIGNATURE}"),
        format!("v1a,c2lnbmF0dXJl v2,x {SIGNATURE}"),
        format!("{other} {SIGNATURE}"),
    ] {
        assert!(is_good(&first, &list), "{list}");
    }
    let bare = SIGNATURE.trim_start_matches("v1,");
    for list in [
        String::new(),
        " ".to_owned(),
        "v1,".to_owned(),
        wrong.clone(),
        bare.to_owned(),
        format!("v1a,{bare}"),
        format!("v2,{bare}"),
        format!("V1,{bare}"),
        format!("v1 {bare}"),
        format!("v1,{}", bare.trim_end_matches('=')),
        // What is listed beyond the bound is not looked at.
        format!("{} {SIGNATURE}", vec![wrong; limits::WEBHOOK_SIGNATURES_MAX].join(" ")),
    ] {
        assert!(!is_good(&first, &list), "{list}");
    }
}

#[test]
fn each_header_is_needed_once() {
    let standard = Standard::new(SECRET).unwrap();
    let lines = [("webhook-id", ID), ("webhook-timestamp", TIMESTAMP), ("webhook-signature", SIGNATURE)];
    for at in 0..lines.len() {
        let mut fewer = lines.to_vec();
        fewer.remove(at);
        assert!(is_unproven(&standard.verify(&headers(&fewer), BODY, 1_614_265_330_000)), "{fewer:?}");
        let mut more = lines.to_vec();
        more.push(lines[at]);
        assert!(is_unproven(&standard.verify(&headers(&more), BODY, 1_614_265_330_000)), "{more:?}");
    }
}

#[test]
fn secrets_have_a_prefix_and_24_to_64_bytes() {
    let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![1; bytes]));
    for good in [of(24), of(64), format!("{},{}", of(24), of(32)), vec![of(32); 8].join(",")] {
        assert!(Standard::new(&good).is_ok(), "{good}");
    }
    for bad in [
        String::new(),
        of(23),
        of(65),
        of(24).replace("whsec_", ""),
        of(32).trim_end_matches('=').to_owned(),
        format!("{},", of(24)),
        format!("{} {}", of(24), of(24)),
        "whsec_".to_owned(),
        "whsec_!!!!".to_owned(),
        vec![of(32); 9].join(","),
    ] {
        assert!(Standard::new(&bad).is_err(), "{bad}");
    }
}

#[test]
fn events_become_facts() {
    let body = |kind: &str, data: &str| format!("{{\"type\":\"{kind}\",\"timestamp\":\"x\",\"data\":{data}}}");
    let data = format!(
        "{{\"order_no\":\"{ORDER_NO}\",\"payment_id\":\"pay_1\",\"amount\":1999,\"currency\":\"CNY\",\"x\":[{{}}]}}"
    );
    let money = Money {
        order_no: crate::order::OrderNo::parse(ORDER_NO).unwrap(),
        payment_id: crate::order::ProviderId::parse("pay_1").unwrap(),
        amount: 1999,
        currency: Currency::parse("CNY").unwrap(),
        is_total: false,
        is_ours: true,
    };
    let paid = receive(body("payment.succeeded", &data).as_bytes()).unwrap();
    assert_eq!((paid.event_id.as_str(), paid.event_type.as_str()), ("evt_1", "payment.succeeded"));
    assert_eq!(paid.event, PaymentEvent::Succeeded(money.clone()));
    assert_eq!(
        receive(body("payment.refunded", &data).as_bytes()).unwrap().event,
        PaymentEvent::Refunded(money.clone())
    );
    let failed = format!("{{\"order_no\":\"{ORDER_NO}\"}}");
    assert_eq!(
        receive(body("payment.failed", &failed).as_bytes()).unwrap().event,
        PaymentEvent::Failed(money.order_no)
    );
    for other in [body("payment.disputed", "null"), body("", "{}"), "{\"type\":\"ping\",\"type2\":1}".to_owned()] {
        let read = receive(other.as_bytes());
        if other.contains("\"type\":\"\"") {
            assert!(matches!(read, Err(NotVerified::Malformed(_))), "an event without a name");
        } else {
            assert_eq!(read.unwrap().event, PaymentEvent::Unknown, "{other}");
        }
    }
}

#[test]
fn a_list_is_no_payment() {
    let data = format!("[\"{ORDER_NO}\",\"p\",1999,\"CNY\"]");
    for bad in [
        format!("{{\"type\":\"payment.succeeded\",\"data\":{data}}}"),
        format!("{{\"type\":\"payment.refunded\",\"data\":{data}}}"),
        format!("{{\"type\":\"payment.failed\",\"data\":[\"{ORDER_NO}\"]}}"),
        "[\"ping\"]".to_owned(),
    ] {
        assert!(matches!(receive(bad.as_bytes()), Err(NotVerified::Malformed(_))), "{bad}");
    }
}

#[test]
fn what_is_signed_may_still_be_malformed() {
    let data = |order_no: &str, payment_id: &str, amount: &str, currency: &str| {
        format!(
            "{{\"type\":\"payment.succeeded\",\"data\":{{\"order_no\":{order_no},\"payment_id\":{payment_id},\
             \"amount\":{amount},\"currency\":{currency}}}}}"
        )
    };
    let (no, id, cny) = (format!("\"{ORDER_NO}\""), "\"p\"", "\"CNY\"");
    assert!(receive(data(&no, id, "0", cny).as_bytes()).is_ok());
    assert!(receive(data(&no, id, "9223372036854775807", cny).as_bytes()).is_ok());
    for amount in ["-1", "1.0", "1e3", "\"1\"", "null", "9223372036854775808", "true"] {
        assert!(matches!(receive(data(&no, id, amount, cny).as_bytes()), Err(NotVerified::Malformed(_))), "{amount}");
    }
    let twice = format!("{{\"type\":\"payment.failed\",\"data\":{{\"order_no\":{no},\"order_no\":{no}}}}}");
    for bad in [
        data("1", id, "1", cny),
        data(&no, "\"\"", "1", cny),
        data(&no, &format!("\"{}\"", "x".repeat(129)), "1", cny),
        data(&no, "\"\\n\"", "1", cny),
        data(&no, id, "1", "\"cny\""),
        data(&no, id, "1,\"amount\":2", cny),
        twice,
        "{\"type\":\"payment.succeeded\"}".to_owned(),
        "{\"type\":\"ping\",\"type\":\"payment.succeeded\"}".to_owned(),
        format!("{{\"type\":\"{}\"}}", "x".repeat(129)),
        "{\"type\":1}".to_owned(),
        "{}".to_owned(),
        "null".to_owned(),
        String::new(),
        "{\"type\":\"ping\"}x".to_owned(),
        "[".repeat(1000),
    ] {
        assert!(matches!(receive(bad.as_bytes()), Err(NotVerified::Malformed(_))), "{bad}");
    }
    assert!(matches!(receive(b"{\"type\":\"\xff\"}"), Err(NotVerified::Malformed(_))));
    // Somebody else's order number is no mistake of the provider's.
    for other in ["\"\"", "\"ORDER-1\"", "\"2ea1y4g9mygn66x8vtccfh635k\""] {
        assert_eq!(receive(data(other, id, "1", cny).as_bytes()), Err(NotVerified::OtherOrder), "{other}");
    }
}
