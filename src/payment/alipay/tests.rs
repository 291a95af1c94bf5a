//! Alipay: a notification that another program signed, forgeries, and what each state of a trade becomes.

use super::*;
use crate::payment::tests::{ORDER_NO, is_unproven, one_bit_off, provider_key, sign, stranger_key};

/// See `tests/payments/README.md`: signed with Python's `cryptography`, held against openssl.
const PAID: &[u8] = include_bytes!("../../../tests/payments/alipay_paid.form");
const SIGNED: &str = include_str!("../../../tests/payments/alipay_paid.signed");

fn alipay() -> Alipay {
    Alipay {
        keys: vec![provider_key()],
        app_id: "2021000000000001".to_owned(),
        seller_id: Some("2088000000000001".to_owned()),
    }
}

/// A signed form with these parameters over those of a payment; an empty value leaves one out.
fn form(changes: &[(&str, &str)]) -> Vec<u8> {
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([
        ("notify_id", "n1"),
        ("notify_time", "2026-11-20 20:00:10"),
        ("trade_no", "t1"),
        ("out_trade_no", ORDER_NO),
        ("trade_status", "TRADE_SUCCESS"),
        ("total_amount", "19.99"),
        ("app_id", "2021000000000001"),
        ("seller_id", "2088000000000001"),
        ("subject", "球鞋 & 1=1+1 %26"),
    ]);
    all.extend(changes.iter().copied());
    all.retain(|_, value| !value.is_empty());
    let signed: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let signature = sign(signed.join("&").as_bytes());
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("sign_type", "RSA2").append_pair("sign", &signature).extend_pairs(all.iter().rev());
    form.finish().into_bytes()
}

fn receive(changes: &[(&str, &str)]) -> Result<Report, NotVerified> {
    alipay().verify(&form(changes))
}

fn money(report: &Report) -> &Money {
    report.event.money().unwrap()
}

#[test]
fn a_notification_that_another_program_signed() {
    assert_eq!(Form::parse(PAID).unwrap().signed(), SIGNED);
    let report = alipay().verify(PAID).unwrap();
    assert_eq!(report.event_id.as_str(), "2026112000222200010000000000000001");
    assert_eq!(report.event_type.as_str(), "TRADE_SUCCESS");
    let want = Money {
        order_no: crate::order::OrderNo::parse(ORDER_NO).unwrap(),
        payment_id: crate::order::ProviderId::parse("2026112022001400000000000001").unwrap(),
        amount: 1999,
        currency: Currency::parse("CNY").unwrap(),
        is_total: true,
        is_ours: true,
    };
    assert_eq!(report.event, PaymentEvent::Succeeded(want));
}

#[test]
fn every_bit_counts() {
    let alipay = alipay();
    let before = Form::parse(PAID).unwrap();
    for body in one_bit_off(PAID) {
        // A bit that leaves the decoded form as it was, such as in the case of %2b, changes nothing that is said.
        if Form::parse(&body).is_ok_and(|form| form.0 == before.0) {
            continue;
        }
        assert!(is_unproven(&alipay.verify(&body)), "{}", String::from_utf8_lossy(&body));
    }
    for length in 0..PAID.len() {
        assert!(is_unproven(&alipay.verify(&PAID[..length])), "{length}");
    }
}

#[test]
fn only_alipays_keys_are_believed() {
    let keys = |keys| Alipay { keys, ..alipay() };
    assert!(is_unproven(&keys(vec![stranger_key()]).verify(PAID)));
    assert!(keys(vec![stranger_key(), provider_key()]).verify(PAID).is_ok());
    let text = std::str::from_utf8(PAID).unwrap();
    for other in [
        text.replace("sign_type=RSA2", "sign_type=RSA"),
        text.replace("&sign_type=RSA2", ""),
        text.replace("&sign=", "&signature="),
        format!("{text}&x=1"),
        format!("{text}&total_amount=0.01"),
        format!("total_amount=0.01&{text}"),
        format!("{text}&sign="),
    ] {
        assert!(is_unproven(&alipay().verify(other.as_bytes())), "{other}");
    }
    assert!(is_unproven(&receive(&[("charset", "gbk")])));
    assert!(receive(&[("charset", "UTF-8")]).is_ok());
}

#[test]
fn a_form_has_up_to_128_parameters() {
    let names: Vec<String> = (0..limits::FORM_PARAMETERS_MAX).map(|n| format!("x{n}")).collect();
    // Nine of a payment, sign and sign_type.
    let with = |more: usize| {
        let more: Vec<(&str, &str)> = names.iter().take(more).map(|name| (name.as_str(), "1")).collect();
        receive(&more)
    };
    assert!(with(limits::FORM_PARAMETERS_MAX - 11).is_ok());
    assert!(is_unproven(&with(limits::FORM_PARAMETERS_MAX - 10)));
}

#[test]
fn a_form_is_utf_8_and_taken_as_it_is() {
    let form = |text: &str| Form::parse(text.as_bytes()).map(|form| form.signed());
    assert_eq!(form("b=1+1%2b1&a=%E7%90%83&c=%zz%4&d&&=e"), Ok("=e&a=球&b=1 1+1&c=%zz%4&d=".to_owned()));
    assert_eq!(form("a=%EF%BF%BD"), Ok("a=\u{FFFD}".to_owned()));
    for bad in ["a=%FF", "a=%E7%90", "%C0%80=1", "a=%ED%A0%80"] {
        assert!(is_unproven(&form(bad)), "{bad}");
    }
    assert!(is_unproven(&Form::parse(b"a=\xff")));
}

/// A buyer who may choose a text of the order, such as its subject, could otherwise have Alipay sign what suits them.
#[test]
fn a_parameter_does_not_hide_in_another() {
    for name in READ {
        assert!(is_unproven(&receive(&[("subject", &format!("shoes&{name}=1"))])), "{name}");
        assert!(is_unproven(&receive(&[(&format!("a=1&{name}"), "1")])), "{name}");
    }
    assert!(receive(&[("subject", "total_amount=1&colour=red&size=")]).is_ok());
    // The same signed text, cut elsewhere: 1999 yuan for the price of one fen.
    let signed = form(&[("subject", "x&total_amount=1999.00&tz=8"), ("total_amount", "0.01")]);
    assert!(is_unproven(&alipay().verify(&signed)));
    let told: Vec<(String, String)> = form_urlencoded::parse(&signed).into_owned().collect();
    let mut cut = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &told {
        match name.as_str() {
            "subject" => cut.append_pair("subject", "x").append_pair("total_amount", "1999.00"),
            "total_amount" => cut.append_pair("tz", "8&total_amount=0.01"),
            _ => cut.append_pair(name, value),
        };
    }
    assert!(is_unproven(&alipay().verify(cut.finish().as_bytes())));
}

#[test]
fn each_state_of_a_trade_is_a_fact() {
    let event = |changes: &[(&str, &str)]| receive(changes).unwrap().event;
    assert!(matches!(event(&[("trade_status", "TRADE_FINISHED")]), PaymentEvent::Succeeded(_)));
    assert!(matches!(event(&[("refund_fee", "0.00")]), PaymentEvent::Succeeded(_)));
    assert!(matches!(event(&[("trade_status", "TRADE_CLOSED")]), PaymentEvent::Closed(_)));
    assert_eq!(event(&[("trade_status", "WAIT_BUYER_PAY")]), PaymentEvent::Unknown);
    assert_eq!(event(&[("trade_status", "")]), PaymentEvent::Unknown);
    for status in ["TRADE_SUCCESS", "TRADE_CLOSED", "TRADE_FINISHED"] {
        let back = [("trade_status", status), ("refund_fee", "5.5"), ("gmt_refund", "2026-11-20 21:00:00.1")];
        let report = receive(&back).unwrap();
        assert!(matches!(report.event, PaymentEvent::Refunded(_)), "{status}");
        let back = money(&report);
        assert_eq!((back.amount, back.is_total, back.payment_id.as_str()), (550, true, "t1"));
    }
    let named = receive(&[("refund_fee", "1"), ("out_biz_no", "refund-7")]).unwrap();
    assert_eq!(money(&named).payment_id.as_str(), "refund-7");
}

#[test]
fn another_merchants_money_is_not_ours() {
    let is_ours = |changes: &[(&str, &str)]| money(&receive(changes).unwrap()).is_ours;
    assert!(is_ours(&[]));
    assert!(!is_ours(&[("app_id", "2021000000000002")]));
    assert!(!is_ours(&[("app_id", "")]));
    assert!(!is_ours(&[("seller_id", "2088000000000002")]));
    assert!(!is_ours(&[("seller_id", "")]));
    let any_seller = Alipay { seller_id: None, ..alipay() };
    assert!(money(&any_seller.verify(&form(&[("seller_id", "2")])).unwrap()).is_ours);
    assert_eq!(money(&receive(&[("trans_currency", "USD")]).unwrap()).currency.as_str(), "USD");
}

/// Yen have no hundredths, dinars have thousandths.
#[test]
fn amounts_are_in_the_minor_units_of_their_currency() {
    for (currency, text, amount) in [
        ("USD", "19.99", 1999),
        ("JPY", "1999", 1999),
        ("JPY", "1999.00", 1999),
        ("KWD", "1.999", 1999),
        ("KWD", "1.9", 1900),
    ] {
        let told = receive(&[("trans_currency", currency), ("total_amount", text)]).unwrap();
        let money = money(&told);
        assert_eq!((money.amount, money.currency.as_str(), money.is_ours), (amount, currency, true), "{text}");
        let back = receive(&[("trans_currency", currency), ("refund_fee", text)]).unwrap();
        assert!(matches!(&back.event, PaymentEvent::Refunded(back) if (back.amount, back.is_ours) == (amount, true)));
    }
    for (currency, text) in [("JPY", "1999.5"), ("KWD", "1.9999")] {
        let told = receive(&[("trans_currency", currency), ("total_amount", text)]);
        assert!(matches!(told, Err(NotVerified::Malformed(_))), "{text} {currency}");
    }
}

#[test]
fn what_is_signed_may_still_be_malformed() {
    for bad in [
        [("notify_id", "")],
        [("trade_no", "")],
        [("out_trade_no", "")],
        [("total_amount", "")],
        [("total_amount", "19.999")],
        [("total_amount", "19.")],
        [("total_amount", "-1")],
        [("gmt_refund", "2026-11-20 21:00:00")],
        [("refund_fee", "x")],
        [("trans_currency", "yuan")],
    ] {
        assert!(matches!(receive(&bad), Err(NotVerified::Malformed(_))), "{bad:?}");
    }
    assert_eq!(receive(&[("out_trade_no", "shop-1")]), Err(NotVerified::OtherOrder));
}

#[test]
fn yuan_are_read_to_the_fen_or_not_at_all() {
    for (text, fen) in [
        ("0", 0),
        ("0.01", 1),
        ("0.1", 10),
        ("1", 100),
        ("1.0", 100),
        ("19.99", 1999),
        ("0.29", 29),
        ("1.15", 115),
        ("0019.90", 1990),
        ("19.990", 1999),
        ("92233720368547758.07", i64::MAX),
    ] {
        assert_eq!(minor_units(text, 2), Some(fen), "{text}");
    }
    let bad = ["", ".", "1.", ".1", "1.001", "1,00", "-1", "+1", "1e2", " 1", "1 ", "１", "1.-1", "0x1", "1.2.3"];
    for text in bad.into_iter().chain(["92233720368547758.08", "92233720368547759", "99999999999999999999"]) {
        assert_eq!(minor_units(text, 2), None, "{text}");
    }
}
