//! Whatever is not exactly what we issued is no token.

use super::*;
use crate::order::{Name, Rules, SaleNo, Salt, Switch};

const EXPIRES_AT: UnixMs = 1_795_176_300_000;
const ID: [u8; 16] = *b"sixteen of these";

fn sale(id: &str, salt: u8) -> Sale {
    Sale {
        no: SaleNo(1),
        id: Name::parse(id).unwrap(),
        rules: Rules::default(),
        salt: Salt::new([salt; 32]),
        derivation: 1,
        switch: Switch::Running,
        skus: Vec::new(),
        revision: 1,
        bypassed: false,
    }
}

fn user(n: u64) -> UserId {
    UserId::new(n).unwrap()
}

/// With a key per sale, and with secrets.
fn both() -> [PurchaseTokens; 2] {
    [PurchaseTokens::default(), PurchaseTokens::new(&["a secret of more than thirty-two characters"])]
}

#[test]
fn a_token_is_read_back_by_whoever_it_is_for() {
    for tokens in both() {
        for id in ["s", &"x".repeat(64)] {
            let sale = sale(id, 7);
            let text = tokens.issue(&sale, user(i64::MAX as u64), EXPIRES_AT, ID);
            assert!(text.len() <= limits::PURCHASE_TOKEN_CHARS_MAX, "{} characters", text.len());
            assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
            let genuine = VerifiedToken { id: ID, expires_at: EXPIRES_AT };
            assert_eq!(tokens.verify(&text, &sale, user(i64::MAX as u64)), Some(genuine));
        }
    }
}

/// Engines of two versions take each other's tokens. These were computed by another program, from the description of
/// `PurchaseTokens::issue` and Python's `blake3`.
#[test]
fn golden() {
    let texts = both().map(|tokens| tokens.issue(&sale("demo", 7), user(42), EXPIRES_AT, ID));
    assert_eq!(
        texts[0],
        "AQAAAAAAAAAqAAABofjYfeBzaXh0ZWVuIG9mIHRoZXNlZGVtb_RcRYyIhvlsyTQd2x9QdSlFg47xabRFUu2JnMgrL2Vf"
    );
    assert_eq!(
        texts[1],
        "AQAAAAAAAAAqAAABofjYfeBzaXh0ZWVuIG9mIHRoZXNlZGVtb5H5-NYvU7SFslfJXHgh51Rj6zmAmR5x5EQTiuUQp_np"
    );
}

#[test]
fn a_token_is_for_one_user_and_one_sale() {
    for tokens in both() {
        let mine = sale("s", 7);
        let text = tokens.issue(&mine, user(1), EXPIRES_AT, ID);
        assert_eq!(tokens.verify(&text, &mine, user(2)), None, "another user");
        assert_eq!(tokens.verify(&text, &sale("t", 7), user(1)), None, "another sale");
        assert_eq!(tokens.verify(&text, &sale("s", 8), user(1)), None, "a sale of this name in another ledger");
    }
}

#[test]
fn a_token_with_any_bit_flipped_is_none() {
    for tokens in both() {
        let sale = sale("s", 7);
        let bytes = URL_SAFE_NO_PAD.decode(tokens.issue(&sale, user(1), EXPIRES_AT, ID)).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tokens.verify(&URL_SAFE_NO_PAD.encode(forged), &sale, user(1)), None, "bit {bit}");
        }
    }
}

#[test]
fn a_token_has_one_spelling() {
    let (tokens, sale) = (PurchaseTokens::default(), sale("s", 7));
    let text = tokens.issue(&sale, user(1), EXPIRES_AT, ID);
    for length in 0..text.len() {
        assert_eq!(tokens.verify(&text[..length], &sale, user(1)), None, "the first {length} characters");
    }
    for behind in ["=", "==", "A", "AA", "AAA", "AAAA", " ", "\0", "\n"] {
        assert_eq!(tokens.verify(&format!("{text}{behind}"), &sale, user(1)), None, "{behind:?} behind it");
        assert_eq!(tokens.verify(&format!("{behind}{text}"), &sale, user(1)), None, "{behind:?} before it");
    }
    // 66 bytes end at a character; with 65 or 64 the last character has bits that say nothing.
    assert_eq!(URL_SAFE_NO_PAD.decode(&text).unwrap().len(), 66);
    for sale in [super::tests::sale("st", 7), super::tests::sale("sto", 7)] {
        let text = tokens.issue(&sale, user(1), EXPIRES_AT, ID);
        let (start, last) = text.split_at(text.len() - 1);
        let others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars();
        let others = others.filter(|c| *c != last.chars().next().unwrap());
        for other in others {
            assert_eq!(tokens.verify(&format!("{start}{other}"), &sale, user(1)), None, "{other} for {last}");
        }
    }
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut spelt_otherwise = 0;
    for number in 0..64_u8 {
        let text = tokens.issue(&sale, user(1), EXPIRES_AT, [number; 16]);
        let other = standard.encode(URL_SAFE_NO_PAD.decode(&text).unwrap());
        if other != text {
            spelt_otherwise += 1;
            assert_eq!(tokens.verify(&other, &sale, user(1)), None, "the alphabet that is not for URLs");
        }
    }
    assert!(spelt_otherwise > 0);
}

#[test]
fn nonsense_is_no_token_however_long() {
    let (tokens, sale) = (PurchaseTokens::default(), sale("s", 7));
    let long = "A".repeat(limits::PURCHASE_TOKEN_CHARS_MAX);
    for text in ["", "A", "AQ", "forged", "é", "\u{0}", &long, &long.repeat(100)] {
        assert_eq!(tokens.verify(text, &sale, user(1)), None, "{text:?}");
    }
}

#[test]
fn a_secret_can_be_replaced_while_tokens_are_about() {
    let (old, new) = ("the old secret, of thirty-two or more", "the new secret, of thirty-two or more");
    let sale = sale("s", 7);
    let before = PurchaseTokens::new(&[old]);
    let between = PurchaseTokens::new(&[new, old]);
    let after = PurchaseTokens::new(&[new]);
    let first = before.issue(&sale, user(1), EXPIRES_AT, ID);
    let second = between.issue(&sale, user(1), EXPIRES_AT, ID);
    let genuine = Some(VerifiedToken { id: ID, expires_at: EXPIRES_AT });
    assert_ne!(first, second);
    assert_eq!(between.verify(&first, &sale, user(1)), genuine, "both name one operation");
    assert_eq!(between.verify(&second, &sale, user(1)), genuine);
    assert_eq!(after.verify(&second, &sale, user(1)), genuine, "the first of the list signs");
    assert_eq!(after.verify(&first, &sale, user(1)), None, "until it is taken off the list");
    assert_eq!(before.verify(&second, &sale, user(1)), None);
    assert_eq!(PurchaseTokens::default().verify(&first, &sale, user(1)), None, "a sale's key is not a secret's");
}

#[test]
fn keys_are_not_shown() {
    let tokens = PurchaseTokens::new(&["hunter2-hunter2-hunter2-hunter2-hunter2"]);
    assert_eq!(format!("{tokens:?}"), "PurchaseTokens(1 keys)");
}
