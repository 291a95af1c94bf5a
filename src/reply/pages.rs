//! The page behind each problem's `type`: what the code means and what to do, for the person who debugs a client.

use super::ok_document;
use crate::http::Answer;
use crate::order::{Code, Retry};

/// The HTML page of a code, by its text; `None` for a code that does not exist.
pub fn problem_page(code: &str) -> Option<Answer> {
    page(code).map(|page| ok_document("text/html; charset=utf-8", page))
}

fn page(code: &str) -> Option<String> {
    let code = Code::ALL.iter().copied().find(|known| known.as_str() == code)?;
    let retry = if code.retry() != Retry::Never {
        "Yes: send the same request with the same key again, after <code>Retry-After</code> seconds where it is given."
    } else {
        "No: repeating it as it is only adds load. See what to do instead."
    };
    let (code_text, status, title) = (code.as_str(), super::status(code).as_u16(), code.title());
    let (when, act) = (when(code), act(code));
    Some(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{code_text} – rushgate</title><style>{STYLE}</style></head><body>\
         <h1><code>{code_text}</code></h1><p class=\"status\">HTTP {status}</p><p>{title}.</p>\
         <h2>When</h2><p>{when}</p>\
         <h2>Is a retry worth it?</h2><p>{retry}</p>\
         <h2>What to do</h2><p>{act}</p></body></html>\n"
    ))
}

const STYLE: &str = "\
    :root{color-scheme:light dark}\
    body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#1c2330}\
    h1{font-size:1.5rem;margin-bottom:0}\
    h2{font-size:1rem;margin:1.6rem 0 .2rem}\
    p{margin:.2rem 0}\
    code{font-family:ui-monospace,monospace;background:#eef1f5;padding:.1em .3em;border-radius:3px}\
    .status{color:#5a6675;margin-top:.2rem}\
    @media(prefers-color-scheme:dark){\
    body{background:#14181f;color:#dde3ea}a{color:#8ab4f8}code{background:#232a34}.status{color:#97a3b3}}";

/// When the code is sent.
fn when(code: Code) -> &'static str {
    match code {
        Code::MalformedRequest => {
            "The body or the query does not fit this call: it is not JSON, a member is unknown, doubled, missing or of the \
             wrong type, or a number is out of range. The detail names it."
        }
        Code::IdempotencyKeyMissing => {
            "The call changes something, and the request carries no key by which the server could recognise a repeat."
        }
        Code::IdempotencyKeyInvalid => {
            "The key is empty, longer than 255 characters, contains a blank, a comma or a character beyond visible ASCII, is \
             not a whole quoted string, or the request has several different keys."
        }
        Code::Unauthenticated => {
            "The request names no user, or does not prove it: its token is not valid or has expired, or its header is no user \
             id or did not come through the gateway."
        }
        Code::Forbidden => {
            "The request names a user other than the authenticated one, or a browser sent it for another site."
        }
        Code::TokenInvalid => {
            "The purchase token is forged, another user's or another sale's, or has expired without having made an order."
        }
        Code::TokenRequired => "The sale takes orders with a purchase token only, and the request has none.",
        Code::NotFound => "This listener has no call at this path.",
        Code::SaleNotFound => "The server knows no sale with this id.",
        Code::SkuNotFound => "The sale exists, but has no item with this id.",
        Code::OrderNotFound => "No order has this number or key, or it is another user's.",
        Code::MethodNotAllowed => "The path exists and supports other methods; the Allow header lists them.",
        Code::IdempotencyInProgress => "The server is still working on an earlier request of the same operation.",
        Code::IdempotencyConflict => "The sale refuses repeats, and this operation has made its order.",
        Code::SoldOut => "All shards together have fewer units left than the order asks for.",
        Code::LimitReached => "The user's live orders of this sku and this one together exceed the sale's limit.",
        Code::SaleNotOpen => "The sale's window has not begun.",
        Code::SalePaused => "An operator paused the sale.",
        Code::InvalidTransition => "The order or sale is in a state from which this step does not lead on.",
        Code::SaleExists => "A sale with this id was created with other content.",
        Code::ChangeExists => "This change_id was used in this sale for another change.",
        Code::NotEnoughStock => "The change removes more units than are unsold.",
        Code::SaleEnded => "The sale's window is over, or an operator ended it.",
        Code::BodyTooLarge => {
            "The body is larger than 64 KiB. The server did not read it, and the request uses up no key."
        }
        Code::UnsupportedMediaType => "The Content-Type is missing or is not application/json.",
        Code::IdempotencyKeyReused => {
            "An earlier request had the same user, the same sale (or the same step of the same order) and the same key, and \
             other content."
        }
        Code::RateLimited => "The user or the address has exceeded its rate.",
        Code::Overloaded => "More orders are on their way to the ledger than the engine admits at once.",
        Code::GateUnavailable => "The engine cannot reach the gate of this user's shard.",
        Code::LedgerUnavailable => "The ledger does not record orders at the moment, and did not record this one.",
        Code::UnknownOutcome => {
            "The ledger's answer was lost, or its connection broke, while it recorded the order; or the engine met a defect."
        }
    }
}

/// What a client or its author should do.
fn act(code: Code) -> &'static str {
    match code {
        Code::MalformedRequest => "Compare the request with <a href=\"/openapi.yaml\">openapi.yaml</a>.",
        Code::IdempotencyKeyMissing => {
            "Draw a key once per intended order (a UUID will do), keep it, and send it as Idempotency-Key with every attempt."
        }
        Code::IdempotencyKeyInvalid => {
            "Send one Idempotency-Key header with 1–255 visible ASCII characters and no comma."
        }
        Code::Unauthenticated => {
            "Send the credentials that this server requires; the detail says what was wrong. If a token has expired, get a new \
             one and send the same request with the same key."
        }
        Code::Forbidden => "Leave user_id out of the body, or send the authenticated user.",
        Code::TokenInvalid | Code::TokenRequired => {
            "Get a purchase token for this sale, and send it as Purchase-Token."
        }
        Code::NotFound => "Check the path; admin calls are on the admin listener only.",
        Code::SaleNotFound | Code::SkuNotFound => "Check the ids; they are case-sensitive.",
        Code::OrderNotFound => {
            "If the answer to an order was lost, send the order again with the same key: that settles it."
        }
        Code::MethodNotAllowed => "Use one of the methods in the Allow header.",
        Code::IdempotencyInProgress => {
            "Wait and repeat, or send Prefer: wait=5 to get the answer as soon as it is there."
        }
        Code::IdempotencyConflict => "Read the order whose number stands in order_no.",
        Code::SoldOut => "Tell the buyer. Units of unpaid orders may come back, so a later try is a new decision.",
        Code::LimitReached => "Tell the buyer. A cancelled or expired order gives its units back to the limit.",
        Code::SaleNotOpen => "Come back after Retry-After seconds.",
        Code::SalePaused => "Repeat now and then; the sale may be resumed.",
        Code::InvalidTransition => "Read the current state first: the detail names it.",
        Code::SaleExists => "Choose another sale_id, or send the content that exists.",
        Code::ChangeExists => "Choose another change_id for another change.",
        Code::NotEnoughStock => "Read the sale's stock and remove at most the available units.",
        Code::SaleEnded => "Nothing: an end is final. Orders that exist can still be read.",
        Code::BodyTooLarge => "Send less; an order needs under 200 bytes.",
        Code::UnsupportedMediaType => "Send Content-Type: application/json.",
        Code::IdempotencyKeyReused => "Use a new key for a new order, and the same content for a retry.",
        Code::RateLimited | Code::Overloaded | Code::GateUnavailable | Code::LedgerUnavailable => {
            "Wait Retry-After seconds, with some jitter, and repeat with the same key."
        }
        Code::UnknownOutcome => {
            "Repeat with the same key until another answer comes. The order exists once or not at all; never use a new key."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn every_code_has_its_page_and_nothing_else_has() {
        for code in Code::ALL {
            let page = page(code.as_str()).unwrap();
            assert!(page.contains(code.as_str()) && page.contains(when(*code)) && page.contains(act(*code)));
        }
        assert_eq!(page("no_such_code"), None);
    }

    #[test]
    fn the_bounds_are_those_of_the_limits() {
        assert!(
            when(Code::IdempotencyKeyInvalid).contains(&format!("longer than {} characters", limits::KEY_CHARS_MAX))
        );
        assert!(act(Code::IdempotencyKeyInvalid).contains(&format!("1–{} visible", limits::KEY_CHARS_MAX)));
        assert!(when(Code::BodyTooLarge).contains(&format!("{} KiB", limits::BODY_BYTES_MAX / 1024)));
    }
}
