//! WeChat Pay: published vectors, a notification that another program made, forgeries, and what each event becomes.

use super::*;
use crate::payment::tests::{NOW_MS, ORDER_NO, headers, is_unproven, one_bit_off, provider_key, sign, stranger_key};

/// The APIv3 key that WeChat Pay's own library for Java tests with.
const API_KEY: &str = "a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb";
const SERIAL: &str = "PUB_KEY_ID_0000000000000024101100397200000006";

/// See `tests/payments/README.md`: made with Python's `cryptography`, held against openssl.
const PAID: &[u8] = include_bytes!("../../../tests/payments/wechatpay_paid.json");
const PAID_SIGNATURE: &str = include_str!("../../../tests/payments/wechatpay_paid.signature");
const PAID_NONCE: &str = "593BEC0C930BF1AFEB40B4A08C8FB242";
const TIMESTAMP: &str = "1795176000";

fn with(keys: Vec<(String, PublicKey)>, api_keys: &str) -> Wechatpay {
    Wechatpay::new(keys, api_keys, "1230000109".to_owned(), Some("wxd678efh567hg6787".to_owned())).unwrap()
}

fn wechatpay() -> Wechatpay {
    with(vec![(SERIAL.to_owned(), provider_key())], API_KEY)
}

fn lines<'a>(signature: &'a str, nonce: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("wechatpay-timestamp", TIMESTAMP),
        ("wechatpay-nonce", nonce),
        ("wechatpay-serial", SERIAL),
        ("wechatpay-signature", signature),
    ]
}

/// Sends a body, properly signed.
fn hear_body(body: &str) -> Result<Report, NotVerified> {
    let signature = sign(format!("{TIMESTAMP}\nn\n{body}\n").as_bytes());
    wechatpay().verify(&headers(&lines(&signature, "n")), body.as_bytes(), NOW_MS)
}

/// Encrypts what happened, and sends it.
fn receive(event_type: &str, plain: &str) -> Result<Report, NotVerified> {
    let mut sealed = plain.as_bytes().to_vec();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, API_KEY.as_bytes()).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(b"fdasflkja484").unwrap();
    key.seal_in_place_append_tag(nonce, Aad::from(b"transaction"), &mut sealed).unwrap();
    hear_body(&format!(
        "{{\"id\":\"ev1\",\"event_type\":\"{event_type}\",\"resource\":{{\"algorithm\":\"AEAD_AES_256_GCM\",\
         \"ciphertext\":\"{}\",\"associated_data\":\"transaction\",\"nonce\":\"fdasflkja484\",\"x\":0}},\"x\":[]}}",
        STANDARD.encode(sealed)
    ))
}

fn is_sealed(result: &Result<Report, NotVerified>) -> bool {
    matches!(result, Err(NotVerified::Sealed(_)))
}

fn payment(state: &str, mchid: &str, appid: &str, amount: &str) -> String {
    format!(
        "{{\"mchid\":\"{mchid}\",\"appid\":\"{appid}\",\"out_trade_no\":\"{ORDER_NO}\",\"transaction_id\":\"t1\",\
         \"trade_state\":\"{state}\",\"amount\":{amount}}}"
    )
}

#[test]
fn the_published_signature() {
    // Its APIv3 key has 16 bytes, where version 3 has 32: what is encrypted in it cannot be read here, and the event
    // is one that we do not know.
    let body = include_bytes!("../../../tests/payments/published_wechatpay.json");
    let key = PublicKey::read_all(include_bytes!("../../../tests/payments/published_wechatpay.pem")).unwrap().remove(0);
    let wechatpay = with(vec![("D7CE59D1F522D701".to_owned(), key)], API_KEY);
    let lines = [
        ("wechatpay-timestamp", "1624523846"),
        ("wechatpay-nonce", "EcZ9Cmy4Xyx1i6RlJQzLcCyEqDa26NBz"),
        ("wechatpay-serial", "D7CE59D1F522D701"),
        ("wechatpay-signature", include_str!("../../../tests/payments/published_wechatpay.signature")),
    ];
    let report = wechatpay.verify(&headers(&lines), body, 1_624_523_846_000).unwrap();
    assert_eq!(report.event_id.as_str(), "3119dfba-e649-5eec-ab1e-3412bc4d2e17");
    assert_eq!((report.event_type.as_str(), report.event), ("PAYSCORE.USER_OPEN_SERVICE", PaymentEvent::Unknown));
    assert!(is_unproven(&wechatpay.verify(&headers(&lines), body, 1_624_523_846_000 + 300_001)));
}

#[test]
fn the_published_envelope() {
    // From the tests of WeChat Pay's own library for Java (`AeadAesCipherTest`).
    let body = "{\"resource\":{\"algorithm\":\"AEAD_AES_256_GCM\",\"ciphertext\":\"ulwSiIajGClcvcOYvOQ7+l+0PAbzzwI=\",\
                \"associated_data\":\"associatedData\",\"nonce\":\"uluk4a9R25RW\"}}";
    assert_eq!(wechatpay().open(body.as_bytes()).unwrap(), b"message");
}

#[test]
fn a_notification_that_another_program_made() {
    let wechatpay = wechatpay();
    let report = wechatpay.verify(&headers(&lines(PAID_SIGNATURE, PAID_NONCE)), PAID, NOW_MS).unwrap();
    assert_eq!(
        (report.event_id.as_str(), report.event_type.as_str()),
        ("EV-2018022511223320873", "TRANSACTION.SUCCESS")
    );
    let want = Money {
        order_no: crate::order::OrderNo::parse(ORDER_NO).unwrap(),
        payment_id: crate::order::ProviderId::parse("4200000000202611200000000001").unwrap(),
        amount: 1999,
        currency: Currency::parse("CNY").unwrap(),
        is_total: false,
        is_ours: true,
    };
    assert_eq!(report.event, PaymentEvent::Succeeded(want));
}

#[test]
fn every_bit_counts() {
    let wechatpay = wechatpay();
    let verify = |lines: &[(&'static str, &str)], body: &[u8]| wechatpay.verify(&headers(lines), body, NOW_MS);
    let body = b"{\"id\":\"e\",\"event_type\":\"PING\"}";
    let signature = sign(&[TIMESTAMP.as_bytes(), b"\nnonce\n", body, b"\n"].concat());
    assert!(verify(&lines(&signature, "nonce"), body).is_ok());
    for body in one_bit_off(body) {
        assert!(is_unproven(&verify(&lines(&signature, "nonce"), &body)), "{body:?}");
    }
    let header =
        |text: Vec<u8>| String::from_utf8(text).ok().filter(|text| text.bytes().all(|b| (33..127).contains(&b)));
    for nonce in one_bit_off(b"nonce").filter_map(header) {
        assert!(is_unproven(&verify(&lines(&signature, &nonce), body)), "{nonce}");
    }
    for forged in one_bit_off(signature.as_bytes()).filter_map(header) {
        assert!(is_unproven(&verify(&lines(&forged, "nonce"), body)), "{forged}");
    }
    // Two seconds later is fresh as well, but not what was signed.
    let mut later = lines(&signature, "nonce");
    later[0].1 = "1795176002";
    assert!(is_unproven(&verify(&later, body)));
    // The line break between nonce and body cannot be moved.
    assert!(is_unproven(&verify(&lines(&signature, "nonc"), &[b"e\n".as_slice(), body].concat())));
    for at in 0..4 {
        let mut fewer = lines(&signature, "nonce").to_vec();
        let line = fewer.remove(at);
        assert!(is_unproven(&verify(&fewer, body)), "{fewer:?}");
        fewer.extend([line, line]);
        assert!(is_unproven(&verify(&fewer, body)), "{fewer:?}");
    }
}

#[test]
fn probes_and_unknown_serials_fail() {
    let verify =
        |wechatpay: &Wechatpay, lines: &[(&'static str, &str)]| wechatpay.verify(&headers(lines), PAID, NOW_MS);
    let good = lines(PAID_SIGNATURE, PAID_NONCE);
    let probe = format!("WECHATPAY/SIGNTEST/{PAID_SIGNATURE}");
    assert!(is_unproven(&verify(&wechatpay(), &lines(&probe, PAID_NONCE))));
    let mut unknown = good;
    unknown[2].1 = "PUB_KEY_ID_1";
    assert!(is_unproven(&verify(&wechatpay(), &unknown)));
    let stranger = with(vec![(SERIAL.to_owned(), stranger_key())], API_KEY);
    assert!(is_unproven(&verify(&stranger, &good)));
    let several = vec![("1".to_owned(), stranger_key()), (SERIAL.to_lowercase(), provider_key())];
    assert!(verify(&with(several, API_KEY), &good).is_ok());
}

#[test]
fn two_api_keys_may_be_active() {
    let keys = || vec![(SERIAL.to_owned(), provider_key())];
    let verify =
        |api_keys: &str| with(keys(), api_keys).verify(&headers(&lines(PAID_SIGNATURE, PAID_NONCE)), PAID, NOW_MS);
    let next = "0123456789abcdef0123456789ABCDEF";
    assert!(verify(&format!("{next}, {API_KEY}")).is_ok());
    assert!(verify(&format!("{API_KEY},{next}")).is_ok());
    assert!(is_sealed(&verify(next)));
    for bad in ["", "short", &next[1..], &format!("{next}0"), &format!("{next},"), &[next; 9].join(",")] {
        assert!(!Wechatpay::is_api_key_list(bad), "{bad}");
    }
}

#[test]
fn each_event_is_a_fact() {
    let event = |event_type: &str, plain: &str| receive(event_type, plain).unwrap().event;
    let paid = payment("SUCCESS", "1230000109", "wxd678efh567hg6787", "{\"total\":1999}");
    let PaymentEvent::Succeeded(money) = event("TRANSACTION.SUCCESS", &paid) else { panic!("not paid") };
    assert_eq!((money.amount, money.currency.as_str(), money.is_ours), (1999, "CNY", true));
    let closed = payment("CLOSED", "1230000109", "wxd678efh567hg6787", "{\"total\":1999}");
    assert_eq!(event("TRANSACTION.SUCCESS", &closed), PaymentEvent::Unknown);
    for (mchid, appid) in [("1230000109", "wx1"), ("1", "wxd678efh567hg6787")] {
        let other = payment("SUCCESS", mchid, appid, "{\"total\":1999,\"currency\":\"USD\"}");
        let PaymentEvent::Succeeded(money) = event("TRANSACTION.SUCCESS", &other) else { panic!("not paid") };
        assert_eq!((money.currency.as_str(), money.is_ours), ("USD", false));
    }
    let back = |status: &str, mchid: &str| {
        format!(
            "{{\"mchid\":\"{mchid}\",\"out_trade_no\":\"{ORDER_NO}\",\"transaction_id\":\"t1\",\"refund_id\":\"r1\",\
             \"out_refund_no\":\"x\",\"refund_status\":\"{status}\",\"amount\":{{\"total\":1999,\"refund\":999}}}}"
        )
    };
    let PaymentEvent::Refunded(money) = event("REFUND.SUCCESS", &back("SUCCESS", "1230000109")) else {
        panic!("not refunded")
    };
    assert_eq!((money.amount, money.payment_id.as_str(), money.is_total, money.is_ours), (999, "r1", false, true));
    assert!(!event("REFUND.SUCCESS", &back("SUCCESS", "1")).money().unwrap().is_ours);
    assert_eq!(event("REFUND.SUCCESS", &back("PROCESSING", "1230000109")), PaymentEvent::Unknown);
    let failed = PaymentEvent::RefundFailed(order_no(ORDER_NO).unwrap());
    for (event_type, status) in [
        ("REFUND.ABNORMAL", "ABNORMAL"),
        ("REFUND.CLOSED", "CLOSED"),
        ("REFUND.SUCCESS", "ABNORMAL"),
        ("REFUND.SUCCESS", "CLOSED"),
    ] {
        assert_eq!(event(event_type, &back(status, "1230000109")), failed, "{event_type} {status}");
    }
    for event_type in ["REFUND.ABNORMAL", "REFUND.CLOSED"] {
        assert!(matches!(receive(event_type, "{}"), Err(NotVerified::Malformed(_))), "{event_type}");
        let other = back("CLOSED", "1230000109").replace(ORDER_NO, "shop-1");
        assert_eq!(receive(event_type, &other), Err(NotVerified::OtherOrder));
    }
    assert_eq!(event("COUPON.USE", "{}"), PaymentEvent::Unknown);
    assert_eq!(hear_body("{\"id\":\"e\",\"event_type\":\"COUPON.USE\"}").unwrap().event, PaymentEvent::Unknown);
}

#[test]
fn a_list_is_no_payment() {
    let is_malformed = |result: &Result<Report, NotVerified>| matches!(result, Err(NotVerified::Malformed(_)));
    assert!(is_malformed(&hear_body("[\"e\",\"PING\"]")));
    let resource = "[\"AEAD_AES_256_GCM\",\"AAAA\",\"\",\"fdasflkja484\"]";
    assert!(is_malformed(&hear_body(&format!(
        "{{\"id\":\"e\",\"event_type\":\"TRANSACTION.SUCCESS\",\"resource\":{resource}}}"
    ))));
    let paid = format!("[\"1230000109\",\"wx1\",\"{ORDER_NO}\",\"t1\",\"SUCCESS\",{{\"total\":1}}]");
    assert!(is_malformed(&receive("TRANSACTION.SUCCESS", &paid)));
    assert!(is_malformed(&receive("TRANSACTION.SUCCESS", &payment("SUCCESS", "1230000109", "wx1", "[1999,\"CNY\"]"))));
}

#[test]
fn what_is_signed_may_still_be_malformed() {
    let is_malformed = |result: &Result<Report, NotVerified>| matches!(result, Err(NotVerified::Malformed(_)));
    let envelope = |algorithm: &str, ciphertext: &str, nonce: &str| {
        format!(
            "{{\"id\":\"e\",\"event_type\":\"TRANSACTION.SUCCESS\",\"resource\":{{\"algorithm\":\"{algorithm}\",\
             \"ciphertext\":\"{ciphertext}\",\"nonce\":\"{nonce}\"}}}}"
        )
    };
    for bad in [
        String::new(),
        "{}".to_owned(),
        "{\"id\":\"e\"}".to_owned(),
        "{\"id\":\"\",\"event_type\":\"PING\"}".to_owned(),
        "{\"id\":\"e\",\"event_type\":\"PING\",\"id\":\"f\"}".to_owned(),
        "{\"id\":\"e\",\"event_type\":\"TRANSACTION.SUCCESS\"}".to_owned(),
        envelope("AES", "AAAA", "fdasflkja484"),
        envelope("AEAD_AES_256_GCM", "!", "fdasflkja484"),
        envelope("AEAD_AES_256_GCM", "AAAA", "short"),
    ] {
        assert!(is_malformed(&hear_body(&bad)), "{bad}");
    }
    // WeChat Pay has signed it, and none of our keys opens it.
    assert!(is_sealed(&hear_body(&envelope("AEAD_AES_256_GCM", "", "fdasflkja484"))));
    assert!(is_sealed(&hear_body(&envelope("AEAD_AES_256_GCM", &STANDARD.encode([0; 64]), "fdasflkja484"))));
    for amount in ["{}", "{\"total\":\"1\"}", "{\"total\":-1}", "{\"total\":1.5}", "{\"total\":1,\"currency\":\"\"}"] {
        let paid = payment("SUCCESS", "1230000109", "wxd678efh567hg6787", amount);
        assert!(is_malformed(&receive("TRANSACTION.SUCCESS", &paid)), "{amount}");
    }
    let other = payment("SUCCESS", "1", "1", "{\"total\":1}").replace(ORDER_NO, "shop-1");
    assert_eq!(receive("TRANSACTION.SUCCESS", &other), Err(NotVerified::OtherOrder));
}
