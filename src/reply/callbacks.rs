//! Answers to payment providers, each of which reads its own format.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::{JSON, body, ok_json, refusal};
use crate::http::Answer;
use crate::order::{Provider, Refusal};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The ledger stores the report: the provider need not send it again.
pub fn acknowledge(provider: Provider) -> Answer {
    match provider {
        Provider::Standard => ok_json(b"{}".to_vec()),
        // Alipay accepts these seven bytes and no other.
        Provider::Alipay => body(StatusCode::OK, TEXT, Bytes::from_static(b"success")),
        Provider::Wechatpay => {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            answer
        }
    }
}

/// A refusal in the provider's format and with the refusal's status: the provider sends the report again later.
pub fn reject(provider: Provider, why: &Refusal) -> Answer {
    let mut answer = refusal(why);
    // The provider cannot answer a challenge: it has signed the request.
    answer.headers_mut().remove(header::WWW_AUTHENTICATE);
    let (content_type, document) = match provider {
        Provider::Standard => return answer,
        Provider::Alipay => (TEXT, Bytes::from_static(b"failure")),
        Provider::Wechatpay => (JSON, Bytes::from(failure(why))),
    };
    let (mut head, _) = answer.into_parts();
    head.headers.insert(header::CONTENT_TYPE, content_type);
    Response::from_parts(head, Full::new(document))
}

/// The failure that WeChat Pay reads.
fn failure(why: &Refusal) -> Vec<u8> {
    #[derive(Serialize)]
    struct WechatpayFailure<'a> {
        code: &'static str,
        message: &'a str,
    }
    let message = why.detail.as_deref().unwrap_or(why.code.title());
    serde_json::to_vec(&WechatpayFailure { code: "FAIL", message }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::order::Code;

    /// Status, content type and body.
    fn read(answer: Answer) -> (u16, Option<String>, String) {
        let content_type = answer.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = runtime.block_on(answer.into_body().collect()).unwrap().to_bytes();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn each_provider_reads_its_own_success() {
        assert_eq!(read(acknowledge(Provider::Standard)), (200, Some("application/json".to_owned()), "{}".to_owned()));
        let text = Some("text/plain; charset=utf-8".to_owned());
        assert_eq!(read(acknowledge(Provider::Alipay)), (200, text, "success".to_owned()));
        assert_eq!(read(acknowledge(Provider::Wechatpay)), (204, None, String::new()));
    }

    #[test]
    fn each_provider_reads_its_own_failure() {
        let busy = Refusal::from(Code::LedgerUnavailable);
        let (status, content_type, body) = read(reject(Provider::Standard, &busy));
        assert_eq!((status, content_type.as_deref()), (503, Some("application/problem+json")));
        assert!(body.contains("ledger_unavailable"));
        let text = Some("text/plain; charset=utf-8".to_owned());
        assert_eq!(read(reject(Provider::Alipay, &busy)), (503, text, "failure".to_owned()));
        assert_eq!(reject(Provider::Alipay, &busy).headers()[header::RETRY_AFTER], "1");
        for provider in Provider::ALL {
            let unsigned = reject(*provider, &Code::Unauthenticated.into());
            assert_eq!((unsigned.status().as_u16(), unsigned.headers().get(header::WWW_AUTHENTICATE)), (401, None));
        }
        let quoted = Refusal::because(Code::MalformedRequest, "a \"detail\"");
        let json = Some("application/json".to_owned());
        let failure = "{\"code\":\"FAIL\",\"message\":\"a \\\"detail\\\"\"}".to_owned();
        assert_eq!(read(reject(Provider::Wechatpay, &quoted)), (400, json, failure));
        let unknown = Refusal::from(Code::OrderNotFound);
        let (status, _, body) = read(reject(Provider::Wechatpay, &unknown));
        assert_eq!((status, body.as_str()), (404, "{\"code\":\"FAIL\",\"message\":\"The order does not exist\"}"));
    }
}
