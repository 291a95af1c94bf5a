//! What is known of a request beside what it asks for. A transport makes one context for each request; it travels with the
//! command to the engine.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;

use crate::order::UserId;

/// Who asks, until when the client waits, and the id under which the log tells of the request. `P` is a [`UserId`] where only
/// a buyer can ask, a [`Principal`] where an operator can ask too.
#[derive(Clone, Debug)]
pub struct RequestContext<P> {
    /// The request's id.
    pub request_id: RequestId,
    /// Who asks.
    pub principal: P,
    /// Until when the client waits for the answer of an order that another request has in flight.
    pub deadline: Instant,
    /// The operation's span; [`Span::none`] unless the request is sampled.
    pub span: Span,
}

impl<P> RequestContext<P> {
    /// The context of a request that is not sampled, and whose client waits for `wait` from now on.
    pub fn new(request_id: RequestId, principal: P, wait: Duration) -> Self {
        RequestContext { request_id, principal, deadline: Instant::now() + wait, span: Span::none() }
    }

    /// The same, with the operation's span.
    #[must_use]
    pub fn with_span(self, span: &Span) -> Self {
        RequestContext { span: span.clone(), ..self }
    }
}

/// Who asks for a step of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// A buyer, who reaches their own orders only.
    Buyer(UserId),
    /// An operator, who reaches every order.
    Operator,
}

/// The id of a request: unique among all engines that write to one log. It identifies the request and not the operation, so
/// that nothing but the log depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    process: u64,
    number: u64,
}

impl RequestId {
    /// The next id of this process.
    pub fn next() -> Self {
        // 64 random bits tell processes apart. The standard library seeds its hash maps with them.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        RequestId { process: *PROCESS, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.process, self.number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_of_requests_are_distinct_and_short() {
        let ids: HashSet<String> = (0..1000).map(|_| RequestId::next().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() <= 37 && id.bytes().all(|byte| byte.is_ascii_graphic())));
    }
}
