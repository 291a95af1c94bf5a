//! Times as the contract takes them: RFC 3339, with any offset.

use jiff::Timestamp;
use jiff::civil::DateTime;

use super::bounds::malformed;
use crate::clock::UnixMs;
use crate::order::Refusal;

/// The time in a member; `None` if the member is left out.
pub(super) fn time(member: &str, text: Option<String>) -> Result<Option<UnixMs>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let parsed = if is_rfc3339(&text) { unix_ms(&text) } else { None };
    let refusal = || malformed(format!("{member} must be an RFC 3339 time, as 2026-11-20T12:00:00.000Z"));
    parsed.map(Some).ok_or_else(refusal)
}

fn unix_ms(text: &str) -> Option<UnixMs> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    // `Timestamp` ends before the last day of the year 9999, which some write for "never".
    let at: DateTime = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("+00:00"))?.parse().ok()?;
    let since = at.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    UnixMs::try_from(since.as_millis()).ok()
}

/// Whether a text that reads as a time has the form of RFC 3339: the parser takes more than that.
fn is_rfc3339(text: &str) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let Some((date_time, rest)) = text.as_bytes().split_at_checked(19) else { return false };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b't', h1, h2, b':', n1, n2, b':', s1, s2] = date_time
    else {
        return false;
    };
    let zone = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            fraction.get(digits.max(1)..).unwrap_or_default()
        }
        other => other,
    };
    let zone_is_good = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => digits(&[*h1, *h2, *m1, *m2]),
        _ => false,
    };
    zone_is_good && digits(&[*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2, *h1, *h2, *n1, *n2, *s1, *s2])
}
