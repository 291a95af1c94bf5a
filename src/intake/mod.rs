//! The ways in. A transport reads who asks and the raw values of a command, has them checked by `command`, hands the command
//! to the engine, and writes the outcome or the refusal in its own words. What all transports share stands here: the
//! [`RequestGuard`], pages of orders, and [`refuse`], which every refusal passes once. `http/` is the first transport.
//!
//! Nothing here owns I/O that has to be finished: the engine does.

mod guard;
pub(crate) mod http;
mod pages;

pub use self::guard::{Rates, RequestGuard};
pub use self::http::HttpIntake;

use std::sync::Arc;

use tracing::Span;

use crate::command::RequestId;
use crate::engine::Engine;
use crate::http::Route;
use crate::order::Refusal;
use crate::reply;
use crate::trace::{self, Sampler};

/// What every transport is built on.
pub struct Intake {
    /// Answers the commands.
    pub engine: Arc<Engine>,
    /// Authenticates requests and limits their rates, over all transports together.
    pub guard: RequestGuard,
    /// Decides which operations are traced, over all transports together.
    pub sampler: Arc<Sampler>,
}

/// The span of an operation that a call of `table` asks for, if it is sampled.
pub(crate) fn operation<C: PartialEq>(sampler: &Sampler, request_id: RequestId, table: &[Route<C>], call: C) -> Span {
    if !sampler.samples() {
        return Span::none();
    }
    let route = table.iter().find(|route| route.call == call);
    route.map_or_else(Span::none, |route| trace::operation(request_id, route.method.as_str(), route.path))
}

/// Where a refusal is logged.
pub(crate) enum RefusalLog<'a> {
    /// In a line of its own: the operation wrote it, because it knows more than the transport.
    Own,
    /// In the line that [`refuse`] writes: the request's id, and what the request called.
    Line(RequestId, &'a str),
}

/// Counts a refusal, and logs it if the client is not to blame. A transport calls this once for each refusal that it answers;
/// no other code counts one.
pub(crate) fn refuse(engine: &Engine, refusal: &Refusal, log: RefusalLog<'_>) {
    engine.metrics().refuse(refusal.code);
    match log {
        RefusalLog::Line(request_id, call) if reply::status(refusal.code).is_server_error() => {
            let (code, detail) = (refusal.code.as_str(), refusal.detail.as_deref());
            tracing::warn!(%request_id, call, code, detail, "could not answer request {request_id} to {call}: {code}");
        }
        RefusalLog::Line(..) | RefusalLog::Own => {}
    }
}
