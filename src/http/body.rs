//! Reading a body: bounded in size and in time.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{self, HeaderMap};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

use super::header::single;
use crate::limits;
use crate::order::{Code, Refusal};

/// What a call requires of the `Content-Type` of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// The body must be JSON.
    Json,
    /// The body must be JSON unless it is empty, which is as good as `{}`.
    JsonOrEmpty,
}

/// Reads a JSON body, bounded as by [`read_body`].
pub async fn read_json(headers: &HeaderMap, body: Incoming, media_type: MediaType) -> Result<Bytes, Refusal> {
    if media_type == MediaType::Json && !is_json(headers) {
        return Err(Code::UnsupportedMediaType.into());
    }
    let body = read_body(headers, body).await?;
    if body.is_empty() && media_type == MediaType::JsonOrEmpty {
        return Ok(Bytes::from_static(b"{}"));
    }
    if is_json(headers) { Ok(body) } else { Err(Code::UnsupportedMediaType.into()) }
}

/// Reads a body of any kind: at most [`limits::BODY_BYTES_MAX`], within [`limits::BODY_MS_MAX`].
pub async fn read_body(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
    if declared_length(headers).is_some_and(|length| length > limits::BODY_BYTES_MAX as u64) {
        return Err(Code::BodyTooLarge.into());
    }
    let within = Duration::from_millis(limits::BODY_MS_MAX);
    let collected = tokio::time::timeout(within, Limited::new(body, limits::BODY_BYTES_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Code::BodyTooLarge.into()),
        Ok(Err(_)) => Err(Refusal::because(Code::MalformedRequest, "the body broke off")),
        Err(_) => {
            let detail = format!("the body did not arrive within {} s", limits::BODY_MS_MAX / 1000);
            Err(Refusal::because(Code::MalformedRequest, detail))
        }
    }
}

/// Drains an unwanted body, so that the connection can be used for the next request; `false` if the body is too large, too
/// slow, or waits for `100 Continue`.
pub async fn discard(request: Request<Incoming>) -> bool {
    let (head, body) = request.into_parts();
    if body.is_end_stream() {
        return true;
    }
    let is_large = declared_length(&head.headers).is_some_and(|length| length > limits::BODY_BYTES_MAX as u64);
    if is_large || head.headers.contains_key(header::EXPECT) {
        return false;
    }
    let mut body = Limited::new(body, limits::BODY_BYTES_MAX);
    let to_its_end = async {
        while let Some(frame) = body.frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(Duration::from_millis(limits::UNWANTED_BODY_MS_MAX), to_its_end).await.unwrap_or(false)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the one `Content-Type` is `application/json`, with or without parameters.
fn is_json(headers: &HeaderMap) -> bool {
    let Ok(Some(value)) = single(headers, header::CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognised_by_its_essence() {
        let with = |value: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        for json in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;a=b"]
        {
            assert!(is_json(&with(json)), "{json}");
        }
        for other in ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", ""] {
            assert!(!is_json(&with(other)), "{other}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let mut twice = with("application/json");
        twice.append(header::CONTENT_TYPE, "application/json".parse().unwrap());
        assert!(!is_json(&twice));
    }
}
