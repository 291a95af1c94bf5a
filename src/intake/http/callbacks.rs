//! `POST /v1/payments/callbacks/{provider}`: reports of payment providers. The signature proves who sends them; they have no user.

use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use http::header::HeaderMap;
use hyper::body::Incoming;
use tracing::{Instrument, Span};

use crate::command::RequestId;
use crate::engine::{Engine, ReportResult};
use crate::http::{Answer, read_body};
use crate::intake::guard::RequestGuard;
use crate::intake::{RefusalLog, refuse};
use crate::order::{Code, Note, Provider, Refusal, Report};
use crate::payment::{NotVerified, Providers};
use crate::reply;

/// Where a callback comes from, before its signature is read.
pub(super) struct Sender<'i> {
    pub(super) guard: &'i RequestGuard,
    pub(super) peer: IpAddr,
    pub(super) request_id: RequestId,
}

/// `span` opens the span of a callback whose signature is good: others must not fill the log.
pub(super) async fn callback(
    engine: &Arc<Engine>,
    providers: &Providers,
    sender: Sender<'_>,
    span: impl FnOnce() -> Span,
    provider: &str,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let Sender { guard, peer, request_id } = sender;
    let (head, body) = request.into_parts();
    // A callback without a good signature is charged to its address. If it exceeds the rate, the next one is refused: this
    // one has its refusal already.
    let charge = || guard.charge(peer, &head.headers).unwrap_or_default();
    // The answer does not show which providers exist and are not set up.
    let Some(provider) = Provider::parse(provider).filter(|provider| providers.has(*provider)) else {
        charge();
        return Err(Code::NotFound.into());
    };
    let report = match read_body(&head.headers, body).await {
        Ok(body) => verify(engine, providers, provider, &head.headers, &body),
        Err(refusal) => Err(RefusedCallback { refusal, is_signed: false }),
    };
    let recorded = match report {
        Ok(report) => {
            let span = span();
            record_report(engine, request_id, &span, report).instrument(span.clone()).await
        }
        Err(RefusedCallback { refusal, is_signed }) => {
            let (code, why) = (refusal.code.as_str(), refusal.detail.as_deref());
            let name = provider.as_str();
            if is_signed && refusal.code == Code::OrderNotFound {
                tracing::info!(%request_id, provider = name, code, why, "refused a payment callback of {name}: {code}");
            } else if is_signed {
                // The provider sends it for days, and only the operator can mend it.
                tracing::warn!(%request_id, provider = name, code, why, "{name}: payment callback cannot be read: {code}");
            } else {
                // Every client can send these, and must not fill the log with them; the metrics count them.
                tracing::debug!(%request_id, provider = name, code, why, "refused a payment callback of {name}: {code}");
                charge();
            }
            Err(refusal)
        }
    };
    Ok(match recorded {
        Ok(()) => reply::acknowledge(provider),
        Err(refusal) => {
            refuse(engine, &refusal, RefusalLog::Own);
            reply::reject(provider, &refusal)
        }
    })
}

/// A callback that is no report.
struct RefusedCallback {
    refusal: Refusal,
    /// Whether the provider has signed it.
    is_signed: bool,
}

fn verify(
    engine: &Engine,
    providers: &Providers,
    provider: Provider,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Report, RefusedCallback> {
    providers.verify(provider, headers, body, engine.clock().now_ms()).map_err(|not_verified| {
        let (refusal, is_signed) = match not_verified {
            NotVerified::NotSetUp => (Code::NotFound.into(), false),
            NotVerified::Unproven(why) => (Refusal::because(Code::Unauthenticated, why), false),
            NotVerified::Sealed(why) => (Refusal::because(Code::Unauthenticated, why), true),
            NotVerified::Malformed(why) => (Refusal::because(Code::MalformedRequest, why), true),
            NotVerified::OtherOrder => (Code::OrderNotFound.into(), true),
        };
        RefusedCallback { refusal, is_signed }
    })
}

/// Records a report, and logs what became of it: nothing of its content but what an operator looks orders up by.
async fn record_report(
    engine: &Arc<Engine>,
    request_id: RequestId,
    span: &Span,
    report: Report,
) -> Result<(), Refusal> {
    let (provider, event_type) = (report.provider.as_str(), report.event_type.to_string());
    let order_no = report.order_no().map(|order_no| order_no.to_string());
    let order = order_no.as_deref().unwrap_or("no order");
    match engine.record_report(report, span).await {
        Ok(ReportResult { note, waited, is_new }) => {
            span.record("code", note.as_str());
            let for_a_person = needs_a_person(note) || waited.is_some_and(needs_a_person);
            let (note, waited) = (note.as_str(), waited.map(|waited| waited.as_str()));
            // Repeats are logged too: the first answer may have been lost, and its line with it.
            if for_a_person {
                tracing::warn!(
                    %request_id, provider, event_type, order_no, note, waited, is_new,
                    "stored a payment callback of {provider} for {order} that a person should look at: {note}"
                );
            } else {
                tracing::info!(
                    %request_id, provider, event_type, order_no, note, waited, is_new,
                    "stored a payment callback of {provider} for {order}: {note}"
                );
            }
            Ok(())
        }
        Err(refusal) => {
            let code = refusal.code.as_str();
            span.record("code", code);
            if reply::status(refusal.code).is_server_error() {
                tracing::warn!(
                    %request_id, provider, event_type, order_no, code,
                    "could not store a payment callback of {provider} for {order}: {code}"
                );
            } else {
                tracing::info!(
                    %request_id, provider, event_type, order_no, code,
                    "refused a payment callback of {provider} for {order}: {code}"
                );
            }
            Err(refusal)
        }
    }
}

/// Whether money moved, or did not, in a way that no step of the order answers to.
fn needs_a_person(note: Note) -> bool {
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
