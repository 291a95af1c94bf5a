//! Claims in the store: begun, settled, and released on every other exit.

use std::sync::Arc;

use super::refusal::Refusal;
use super::{Settings, Store, StoredAnswer};
use crate::{Acquired, Answer, Claim, Lost, Operation, UnixMs};

/// The store, and how long claims and answers live in it.
pub(super) struct Keys<S> {
    pub(super) store: Arc<S>,
    pub(super) settings: Arc<Settings>,
}

impl<S> Clone for Keys<S> {
    fn clone(&self) -> Self {
        Keys { store: Arc::clone(&self.store), settings: Arc::clone(&self.settings) }
    }
}

/// What a request meets under its key.
pub(super) enum Begun<S: Store> {
    /// The operation is this request's to do.
    Claimed(Held<S>),
    /// It was done.
    Answered(StoredAnswer),
}

impl<S: Store> Keys<S> {
    /// Claims an operation, or finds its answer.
    pub(super) async fn begin(&self, operation: Operation) -> Result<Begun<S>, Refusal> {
        match self.acquire(&operation).await? {
            Acquired::Claimed(claim) => Ok(Begun::Claimed(Held { keys: self.clone(), claim, is_open: true })),
            Acquired::Done(answer) => decode(&operation, &answer).map(Begun::Answered),
            Acquired::InProgress(_) => Err(Refusal::InProgress),
            Acquired::OtherContent => Err(Refusal::KeyReused),
        }
    }

    async fn acquire(&self, operation: &Operation) -> Result<Acquired, Refusal> {
        let now_ms = (self.settings.clock)();
        let acquired = self.store.acquire(operation, now_ms, self.settings.lease_ms, self.keep_until(now_ms)).await;
        acquired.map_err(|error| {
            log(operation, &error, "claim");
            Refusal::StoreUnavailable
        })
    }

    async fn settle(&self, claim: &Claim, answer: &Answer) -> Result<Result<(), Lost>, S::Error> {
        let keep_until = self.keep_until((self.settings.clock)());
        self.store.settle(claim, answer.clone(), keep_until).await
    }

    async fn release(&self, claim: &Claim) {
        if let Err(error) = self.store.release(claim).await {
            log(claim.operation(), &error, "release");
        }
    }

    fn keep_until(&self, now_ms: UnixMs) -> UnixMs {
        now_ms.saturating_add(self.settings.keep_ms)
    }
}

/// A claim that a handler works under. What drops it before its end, such as a panic, releases it.
pub(super) struct Held<S: Store> {
    keys: Keys<S>,
    claim: Claim,
    is_open: bool,
}

impl<S: Store> Held<S> {
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Gives the key back: the next request tries again.
    pub(super) async fn release(mut self) {
        self.is_open = false;
        self.keys.release(&self.claim).await;
    }

    /// Stores an answer. `Some`: another answer is stored, which is the one to give.
    ///
    /// The handler has had its effect by now. So the client gets its answer even if the store does not take it: a later
    /// request finds the claim, and takes it over when the lease has run out.
    pub(super) async fn settle(mut self, stored: &StoredAnswer) -> Result<Option<StoredAnswer>, Refusal> {
        self.is_open = false;
        let operation = self.claim.operation();
        let answer = Answer { is_success: stored.is_success(), body: stored.encode() };
        match self.keys.settle(&self.claim, &answer).await {
            Ok(Ok(())) => return Ok(None),
            Ok(Err(Lost)) => {}
            Err(error) => {
                log(operation, &error, "store the answer of");
                return Ok(None);
            }
        }
        // The handler completed the claim itself, or another request took it over, or a sweep removed it.
        match self.keys.acquire(operation).await? {
            Acquired::Done(other) if other.body == answer.body => Ok(None),
            Acquired::Done(other) => decode(operation, &other).map(Some),
            Acquired::InProgress(_) | Acquired::OtherContent => Err(Refusal::InProgress),
            Acquired::Claimed(claim) => {
                if let Err(error) = self.keys.settle(&claim, &answer).await {
                    log(operation, &error, "store the answer of");
                }
                Ok(None)
            }
        }
    }
}

impl<S: Store> Drop for Held<S> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        // Without a runtime, at its shutdown, the lease runs out instead.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (keys, claim) = (self.keys.clone(), self.claim.clone());
            runtime.spawn(async move { keys.release(&claim).await });
        }
    }
}

fn decode(operation: &Operation, answer: &Answer) -> Result<StoredAnswer, Refusal> {
    StoredAnswer::decode(&answer.body).ok_or_else(|| {
        log(operation, &"the layer did not write it", "read the answer of");
        Refusal::AnswerUnreadable
    })
}

fn log(operation: &Operation, error: &dyn std::fmt::Display, what: &str) {
    let (scope, key) = (operation.scope.as_str(), operation.key.as_str());
    tracing::error!(scope, key, %error, "could not {what} the operation {key} of {scope}: {error}");
}
