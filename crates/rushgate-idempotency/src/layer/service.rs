//! The walk of a request: key, scope, body, claim, handler, answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tower_service::Service;

use super::body::{LayerBody, Read};
use super::keys::{Begun, Keys};
use super::refusal::Refusal;
use super::{Policy, Settings, Store, StoredAnswer, key_of};
use crate::{Fingerprint, Operation, limits};

/// A service behind an [`IdempotencyLayer`](super::IdempotencyLayer).
pub struct Idempotent<I, S> {
    inner: I,
    keys: Keys<S>,
}

impl<I, S> Idempotent<I, S> {
    pub(super) fn new(inner: I, store: Arc<S>, settings: Arc<Settings>) -> Self {
        Idempotent { inner, keys: Keys { store, settings } }
    }
}

impl<I: Clone, S> Clone for Idempotent<I, S> {
    fn clone(&self) -> Self {
        Idempotent { inner: self.inner.clone(), keys: self.keys.clone() }
    }
}

impl<I, S, B, R> Service<Request<B>> for Idempotent<I, S>
where
    I: Service<Request<LayerBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    I::Future: Send,
    I::Error: Send,
    S: Store,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    type Response = Response<LayerBody<R>>;
    type Error = I::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The inner service that is ready does the work; its clone has yet to become ready.
        let next = self.clone();
        let ready = std::mem::replace(self, next);
        Box::pin(async move {
            match ready.answer(request).await {
                Ok(response) => Ok(response),
                Err(Failure::Inner(error)) => Err(error),
                Err(Failure::Refused(refusal)) => Ok(refusal.response()),
            }
        })
    }
}

/// Why a request has no answer of the handler.
enum Failure<E> {
    /// The handler failed without an answer.
    Inner(E),
    /// The layer refuses the request.
    Refused(Refusal),
}

impl<E> From<Refusal> for Failure<E> {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl<I, S: Store> Idempotent<I, S> {
    /// Checks a request up to its claim, and hands it to a task of its own.
    async fn answer<B, R>(mut self, request: Request<B>) -> Result<Response<LayerBody<R>>, Failure<I::Error>>
    where
        I: Service<Request<LayerBody<B>>, Response = Response<R>> + Send + 'static,
        I::Future: Send,
        I::Error: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Send,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Send,
    {
        let (head, body) = request.into_parts();
        let policy = (self.keys.settings.policy)(&head);
        let key = if policy == Policy::Exempt { None } else { key_of(&head.headers).map_err(Refusal::KeyInvalid)? };
        let Some(key) = key else {
            if policy == Policy::Required {
                return Err(Refusal::KeyMissing.into());
            }
            let answer = self.inner.call(Request::from_parts(head, LayerBody::passed(body))).await;
            return answer.map(|response| response.map(LayerBody::passed)).map_err(Failure::Inner);
        };
        let scope = (self.keys.settings.scope)(&head).ok_or(Refusal::ScopeMissing)?;
        let body = read_command(&head, body, self.keys.settings.body_bytes_max).await?;
        let operation = Operation { scope, key, fingerprint: fingerprint(&head, &body) };
        match tokio::spawn(self.run(operation, head, body)).await {
            Ok(answer) => answer,
            // The claim was released when the handler's task unwound.
            Err(_panic) => Err(Refusal::HandlerPanicked.into()),
        }
    }

    /// Does an operation once.
    async fn run<B, R>(
        mut self,
        operation: Operation,
        mut head: Parts,
        body: Bytes,
    ) -> Result<Response<LayerBody<R>>, Failure<I::Error>>
    where
        I: Service<Request<LayerBody<B>>, Response = Response<R>>,
        B: Body<Data = Bytes>,
        R: Body<Data = Bytes>,
    {
        let held = match self.keys.begin(operation).await? {
            Begun::Claimed(held) => held,
            Begun::Answered(stored) => return Ok(stored.replay()),
        };
        // A handler may complete the claim itself, in the transaction of its effect.
        head.extensions.insert(held.claim().clone());
        let response = match self.inner.call(Request::from_parts(head, LayerBody::whole(body))).await {
            Ok(response) => response,
            Err(error) => {
                held.release().await;
                return Err(Failure::Inner(error));
            }
        };
        if !is_final(response.status()) {
            held.release().await;
            return Ok(response.map(LayerBody::passed));
        }
        let (head, body) = response.into_parts();
        let read = Read::of(body, limits::ANSWER_BYTES_MAX).await;
        let stored = StoredAnswer::of(&head, &self.keys.settings.stored_headers, read.whole());
        match held.settle(&stored).await? {
            None => Ok(Response::from_parts(head, read.into_body())),
            Some(other) => Ok(other.replay()),
        }
    }
}

/// Reads the body of a request with a key.
async fn read_command<B: Body<Data = Bytes>>(head: &Parts, body: B, bytes_max: usize) -> Result<Bytes, Refusal> {
    let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > bytes_max)) {
        return Err(Refusal::BodyTooLarge);
    }
    match Read::of(body, bytes_max).await {
        Read::Whole(body) => Ok(body),
        Read::TooLarge(..) => Err(Refusal::BodyTooLarge),
        Read::Broken(..) => Err(Refusal::BodyBroken),
    }
}

fn fingerprint(head: &Parts, body: &[u8]) -> Fingerprint {
    let target = head.uri.path_and_query().map_or_else(|| head.uri.path(), |target| target.as_str());
    Fingerprint::of_fields("http", &[head.method.as_str().as_bytes(), target.as_bytes(), body])
}

/// Whether the same request would be answered alike another time: not if the service is in trouble (5xx), wants other
/// credentials (401), or asks the client to come again (408, 425, 429).
fn is_final(status: StatusCode) -> bool {
    let comes_again =
        [StatusCode::UNAUTHORIZED, StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    !status.is_server_error() && !comes_again.contains(&status)
}
