//! `POST /v1/payments/callbacks/{provider}`: what payment providers report. It asks for no user: the signature is who is asking.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use http::header::HeaderMap;
use hyper::body::Incoming;

use super::Parts;
use crate::engine::{Engine, ReportResult};
use crate::http::read_body;
use crate::order::{Code, Note, Provider, Refusal, Report};
use crate::payment::{NotVerified, Providers};
use crate::reply::{self, Answer};

pub(super) async fn callback(
    parts: &Parts,
    peer: IpAddr,
    provider: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let Parts { engine, guard, providers } = parts;
    let (head, body) = request.into_parts();
    // What no provider has signed counts for its address. That it may be one too many changes no answer: the next one is told.
    let count = || guard.charge(peer, &head.headers).unwrap_or_default();
    // One that is not set up is as unknown as one that nobody has heard of.
    let Some(provider) = Provider::parse(provider).filter(|provider| providers.has(*provider)) else {
        count();
        return Err(Code::NotFound.into());
    };
    let report = match read_body(&head.headers, body).await {
        Ok(body) => verify(engine, providers, provider, &head.headers, &body),
        Err(refusal) => Err(NotTaken { refusal, is_signed: false }),
    };
    let acknowledge = match report {
        Ok(report) => record_report(engine, report).await,
        Err(NotTaken { refusal, is_signed }) => {
            let (provider, code, why) = (provider.as_str(), refusal.code.as_str(), refusal.detail.as_deref());
            if is_signed && refusal.code == Code::OrderNotFound {
                tracing::info!(provider, code, why, "payment callback not taken in");
            } else if is_signed {
                // The provider sends it for days, and nobody but us can see to it.
                tracing::warn!(provider, code, why, "payment callback cannot be read");
            } else {
                // Anybody can send these, and must not fill the log with them; the metrics count them.
                tracing::debug!(provider, code, why, "payment callback not taken in");
                count();
            }
            Err(refusal)
        }
    };
    Ok(match acknowledge {
        Ok(()) => reply::acknowledge(provider),
        Err(refusal) => {
            engine.metrics().refuse(refusal.code);
            reply::reject(provider, &refusal)
        }
    })
}

/// A callback that says nothing to us.
struct NotTaken {
    refusal: Refusal,
    /// Whether the provider has sent it.
    is_signed: bool,
}

fn verify(
    engine: &Engine,
    providers: &Providers,
    provider: Provider,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Report, NotTaken> {
    providers.verify(provider, headers, body, engine.clock().now_ms()).map_err(|not_verified| {
        let (refusal, is_signed) = match not_verified {
            NotVerified::NotSetUp => (Code::NotFound.into(), false),
            NotVerified::Unproven(why) => (Refusal::because(Code::Unauthenticated, why), false),
            NotVerified::Sealed(why) => (Refusal::because(Code::Unauthenticated, why), true),
            NotVerified::Malformed(why) => (Refusal::because(Code::MalformedRequest, why), true),
            NotVerified::OtherOrder => (Code::OrderNotFound.into(), true),
        };
        NotTaken { refusal, is_signed }
    })
}

/// Hands a report on, and says in the log what became of it: nothing of it but what an operator looks orders up by.
async fn record_report(engine: &Arc<Engine>, report: Report) -> Result<(), Refusal> {
    let (provider, event_type) = (report.provider.as_str(), report.event_type.to_string());
    let order_no = report.order_no().map(|order_no| order_no.to_string());
    match engine.record_report(report).await {
        Ok(ReportResult { note, waited, is_new }) => {
            let is_for_a_look = needs_a_look(note) || waited.is_some_and(needs_a_look);
            let (note, waited) = (note.as_str(), waited.map(|waited| waited.as_str()));
            // Also of one that is known: the first answer may have been lost, and with it this line.
            if is_for_a_look {
                tracing::warn!(provider, event_type, order_no, note, waited, is_new, "payment callback needs a look");
            } else {
                tracing::info!(provider, event_type, order_no, note, waited, is_new, "payment callback");
            }
            Ok(())
        }
        Err(refusal) => {
            let code = refusal.code.as_str();
            if reply::status(refusal.code).is_server_error() {
                tracing::warn!(provider, event_type, order_no, code, "payment callback not taken in");
            } else {
                tracing::info!(provider, event_type, order_no, code, "payment callback not taken in");
            }
            Err(refusal)
        }
    }
}

/// Whether money moved, or did not, in a way that the order's life has no place for.
fn needs_a_look(note: Note) -> bool {
    match note {
        Note::SecondPayment
        | Note::Mismatch
        | Note::Impossible
        | Note::OverRefunded
        | Note::RefundFailed
        | Note::IdReused => true,
        Note::Applied | Note::Parked | Note::Counted | Note::Repeat | Note::NoEffect => false,
    }
}
