//! Idempotency for every mutating route of an HTTP service, with no line in its handlers.
//!
//! [`IdempotencyLayer`] is a [`tower_layer::Layer`] over [`http::Request`], so that hyper (with `TowerToHyperService`), axum
//! and other tower services take it; not gRPC, whose status stands in trailers. A request with a key passes these steps:
//!
//! 1. **Policy.** Methods that change something need a key ([`Policy::of_method`]); a service says where they do not.
//! 2. **Key.** `Idempotency-Key` or `X-Idempotency-Key`, quoted or bare; 400 if it is missing or not a key.
//! 3. **Scope.** The service's function names the user, from what its authentication left in the request; 401 if it cannot.
//! 4. **Body.** Read whole, within [`IdempotencyLayer::body_bytes_max`]; 413 if it is larger. The fingerprint of the command
//!    is that of method, path with query, and body.
//! 5. **Claim.** A new operation goes on. One that another request is doing is 409 with `Retry-After`, one that was done is
//!    answered with the stored answer and `Idempotency-Replayed: true`, and a key of another command is 422. A claim
//!    whose lease has run out is taken over.
//! 6. **Handler.** It runs to its end in a task of its own: a client that hangs up loses only its reply.
//! 7. **Answer.** Status, `Content-Type`, the chosen headers and the body are stored, byte for byte, and replayed from then
//!    on. Where the handler panics or answers 5xx, 401, 408, 425 or 429, the key is released: the next request tries again.
//!
//! # What is promised
//!
//! At most one handler at a time works on an operation while its lease runs, and once an answer is stored, no handler runs
//! again. A process that dies *between* the handler's effect and the stored answer leaves a claim that the next request
//! takes over, and the handler runs again. A handler that must not have its effect twice even then completes its claim
//! in the transaction of the effect: it finds the [`Claim`](crate::Claim) in the extensions of the request and calls `complete` of
//! [`sqlite`](crate::sqlite) or [`postgres`](crate::postgres) with [`StoredAnswer::encode`], or derives the key of a call
//! to another service from the claim's operation. A handler that answers 5xx says that it had no effect.
//!
//! rushgate's own engine takes this way without the layer: its mutating routes decide in the transaction of its ledger, in
//! groups, and use `acquire_all` of [`postgres`](crate::postgres) and its siblings there.

mod answer;
mod body;
mod headers;
mod keys;
mod refusal;
mod service;
mod store;

use std::sync::Arc;

use http::Method;
use http::header::{HeaderName, LOCATION};
use http::request::Parts;
use tower_layer::Layer;

use crate::{Scope, UnixMs, limits};

pub use answer::{REPLAYED, StoredAnswer};
pub use body::LayerBody;
pub use headers::key_of;
pub use service::Idempotent;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
pub use store::Store;
#[cfg(feature = "sqlite")]
pub use store::{SqliteStore, SqliteStoreError};

/// Whether a request needs a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It needs one.
    Required,
    /// It is done once if it has one, and as often as it comes if not.
    Optional,
    /// The layer passes it by, key or not.
    Exempt,
}

impl Policy {
    /// Methods that HTTP calls safe are exempt; all others need a key.
    pub fn of_method(method: &Method) -> Self {
        if method.is_safe() { Policy::Exempt } else { Policy::Required }
    }
}

/// What the layer asks the service for.
type Ask<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

#[derive(Clone)]
struct Settings {
    scope: Ask<Option<Scope>>,
    policy: Ask<Policy>,
    clock: Arc<dyn Fn() -> UnixMs + Send + Sync>,
    lease_ms: i64,
    keep_ms: i64,
    body_bytes_max: usize,
    stored_headers: Vec<HeaderName>,
}

/// Gives every mutating route of a service a key. See [the module](self).
pub struct IdempotencyLayer<S> {
    store: Arc<S>,
    settings: Settings,
}

impl<S: Store> IdempotencyLayer<S> {
    /// A layer that keeps keys in `store`. `scope` says what the key of a request is unique in: the user, as the service's
    /// authentication left it in the head, never as the client claims it. `None` is answered with 401.
    pub fn new(store: S, scope: impl Fn(&Parts) -> Option<Scope> + Send + Sync + 'static) -> Self {
        let settings = Settings {
            scope: Arc::new(scope),
            policy: Arc::new(|head| Policy::of_method(&head.method)),
            clock: Arc::new(system_now_ms),
            lease_ms: 30_000,
            keep_ms: 24 * 3_600_000,
            body_bytes_max: limits::BODY_BYTES_MAX,
            stored_headers: vec![LOCATION],
        };
        IdempotencyLayer { store: Arc::new(store), settings }
    }

    /// Which requests need a key; [`Policy::of_method`] by default.
    #[must_use]
    pub fn policy(mut self, policy: impl Fn(&Parts) -> Policy + Send + Sync + 'static) -> Self {
        self.settings.policy = Arc::new(policy);
        self
    }

    /// How long a handler may take in the worst case, in ms: the longest that a client waits after a process has died. 30 s
    /// by default.
    #[must_use]
    pub fn lease_ms(mut self, lease_ms: i64) -> Self {
        self.settings.lease_ms = lease_ms;
        self
    }

    /// How long an answer is kept, in ms: longer than any client asks again. A day by default.
    #[must_use]
    pub fn keep_ms(mut self, keep_ms: i64) -> Self {
        self.settings.keep_ms = keep_ms;
        self
    }

    /// Largest body of a request that carries a key, in bytes; [`limits::BODY_BYTES_MAX`] by default.
    #[must_use]
    pub fn body_bytes_max(mut self, body_bytes_max: usize) -> Self {
        self.settings.body_bytes_max = body_bytes_max;
        self
    }

    /// Headers of an answer that are stored beside its status, `Content-Type` and body; `Location` by default.
    #[must_use]
    pub fn stored_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings.stored_headers = names.into_iter().collect();
        self
    }

    /// Where the layer reads the time; the machine's clock by default. Where the clocks of several machines may be far
    /// apart, take that of the database.
    #[must_use]
    pub fn clock(mut self, now_ms: impl Fn() -> UnixMs + Send + Sync + 'static) -> Self {
        self.settings.clock = Arc::new(now_ms);
        self
    }

    /// Removes up to `max` expired keys and returns how many. Call it every minute or so, and again while it returns `max`.
    ///
    /// # Errors
    ///
    /// The store could not be reached; nothing was removed.
    pub async fn sweep(&self, max: u32) -> Result<u64, S::Error> {
        self.store.sweep((self.settings.clock)(), max).await
    }
}

impl<S> Clone for IdempotencyLayer<S> {
    fn clone(&self) -> Self {
        IdempotencyLayer { store: Arc::clone(&self.store), settings: self.settings.clone() }
    }
}

impl<I, S> Layer<I> for IdempotencyLayer<S> {
    type Service = Idempotent<I, S>;

    fn layer(&self, inner: I) -> Self::Service {
        Idempotent::new(inner, Arc::clone(&self.store), Arc::new(self.settings.clone()))
    }
}

#[allow(clippy::disallowed_methods, reason = "the layer's default clock; a service may set another")]
fn system_now_ms() -> UnixMs {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
