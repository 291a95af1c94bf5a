//! `POST /v1/payments/callbacks/{provider}`: what payment providers report. It asks for no user: the signature is who is asking.

use std::sync::Arc;

use http::Request;
use http::header::HeaderMap;
use hyper::body::Incoming;

use crate::engine::Engine;
use crate::order::{Code, Note, Provider, Refusal, Report};
use crate::payment::{NotVerified, Providers};
use crate::reply::{self, Answer};
use crate::server::read_body;

pub(super) async fn callback(
    engine: &Arc<Engine>,
    providers: &Providers,
    provider: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    // One that is not set up is as unknown as one that nobody has heard of.
    let provider = Provider::parse(provider).filter(|provider| providers.has(*provider)).ok_or(Code::NotFound)?;
    let (head, body) = request.into_parts();
    let body = read_body(&head.headers, body).await;
    let report = body.and_then(|body| verify(engine, providers, provider, &head.headers, &body));
    let heard = match report {
        Ok(report) => hear(engine, report).await,
        Err(refusal) => {
            let (code, why) = (refusal.code.as_str(), refusal.detail.as_deref());
            tracing::info!(provider = provider.as_str(), code, why, "payment callback not taken in");
            Err(refusal)
        }
    };
    Ok(match heard {
        Ok(()) => reply::heard(provider),
        Err(refusal) => {
            engine.metrics().refuse(refusal.code);
            reply::not_heard(provider, &refusal)
        }
    })
}

fn verify(
    engine: &Engine,
    providers: &Providers,
    provider: Provider,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Report, Refusal> {
    providers.verify(provider, headers, body, engine.clock().now_ms()).map_err(|not_verified| match not_verified {
        NotVerified::NotSetUp => Code::NotFound.into(),
        NotVerified::Unproven(why) => Refusal::because(Code::Unauthenticated, why),
        NotVerified::Malformed(why) => Refusal::because(Code::MalformedRequest, why),
        NotVerified::OtherOrder => Code::OrderNotFound.into(),
    })
}

/// Hands a report on, and says in the log what became of it: nothing of it but what an operator looks orders up by.
async fn hear(engine: &Arc<Engine>, report: Report) -> Result<(), Refusal> {
    let (provider, event_type) = (report.provider.as_str(), report.event_type.to_string());
    let order_no = report.order_no().map(|order_no| order_no.to_string());
    match engine.hear(report).await {
        Ok(note) if needs_a_look(note) => {
            tracing::warn!(provider, event_type, order_no, note = note.as_str(), "payment callback needs a look");
            Ok(())
        }
        Ok(note) => {
            tracing::info!(provider, event_type, order_no, note = note.as_str(), "payment callback");
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

/// Whether money moved in a way that the order's life has no place for.
fn needs_a_look(note: Note) -> bool {
    match note {
        Note::SecondPayment | Note::Mismatch | Note::Impossible => true,
        Note::Applied | Note::Parked | Note::Counted | Note::Repeat | Note::NoEffect => false,
    }
}
