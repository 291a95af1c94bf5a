//! HTTP, the first transport: the calls of the public listener.

mod callbacks;
mod key;
mod place;
mod queries;
mod steps;
mod tokens;

pub(crate) use key::key_of;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;
use tracing::{Instrument, Span};

use super::guard::PendingPrincipal;
use super::{Intake, RefusalLog, operation, refuse};
use crate::command::{IdempotencyPolicy, RequestId};
use crate::http::{Answer, Handle, Route, RouteMatch, Router, discard, plain_path};
use crate::order::{Code, Refusal};
use crate::payment::Providers;
use crate::reply;

/// The contract as a document.
const OPENAPI: &str = include_str!("../../../openapi.yaml");

/// A call of the public listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PublicCall {
    PlaceOrder,
    Orders,
    Order,
    Cancel,
    PaymentCallback,
    Sale,
    NewToken,
    Token,
    Capabilities,
    Problem,
    OpenApi,
}

const CALLS: &[Route<PublicCall>] = &[
    Route::new(Method::POST, "/v1/orders", PublicCall::PlaceOrder, IdempotencyPolicy::DerivedId),
    Route::new(Method::GET, "/v1/orders", PublicCall::Orders, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/v1/orders/{order_no}", PublicCall::Order, IdempotencyPolicy::Read),
    Route::new(Method::POST, "/v1/orders/{order_no}/cancel", PublicCall::Cancel, IdempotencyPolicy::Key),
    Route::new(
        Method::POST,
        "/v1/payments/callbacks/{provider}",
        PublicCall::PaymentCallback,
        IdempotencyPolicy::BusinessId("event_id"),
    ),
    Route::new(Method::GET, "/v1/sales/{sale_id}", PublicCall::Sale, IdempotencyPolicy::Read),
    // Each call draws another token, and the engine stores none: the call changes nothing.
    Route::new(Method::POST, "/v1/sales/{sale_id}/tokens", PublicCall::NewToken, IdempotencyPolicy::Declarative),
    Route::new(Method::GET, "/api/token", PublicCall::Token, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/v1/capabilities", PublicCall::Capabilities, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/problems/{code}", PublicCall::Problem, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/openapi.yaml", PublicCall::OpenApi, IdempotencyPolicy::Read),
];

/// Serves the public listener.
pub struct HttpIntake {
    intake: Arc<Intake>,
    providers: Providers,
    router: Router<PublicCall>,
}

/// A request that found its call, and that its address may send.
struct RoutedRequest<'i, 'p> {
    request_id: RequestId,
    call: PublicCall,
    /// The variable part of its path, or nothing.
    variable: &'p str,
    /// The address it came from.
    peer: IpAddr,
    /// Who asks, where the call needs to know.
    principal: Option<PendingPrincipal<'i>>,
}

impl HttpIntake {
    /// The public listener; payment reports are accepted from `providers` only. Fails only if the table of calls is wrong.
    pub fn new(intake: Arc<Intake>, providers: Providers) -> Result<Self, matchit::InsertError> {
        Ok(HttpIntake { intake, providers, router: Router::new(CALLS)? })
    }

    /// Finds the call and its principal. A request that is refused here is answered before its body is read.
    fn route<'p>(
        &self,
        request_id: RequestId,
        peer: IpAddr,
        request: &Request<Incoming>,
        path: &'p str,
    ) -> Result<RoutedRequest<'_, 'p>, Box<Answer>> {
        let Intake { engine, guard, .. } = &*self.intake;
        let refused = |refusal| Box::new(self.refused(request_id, &refusal, path));
        let found = self.router.find(request.method(), path);
        let passed = match found {
            // Providers have few addresses and, after a rush, much to report: the call charges what they did not sign.
            RouteMatch::Call(PublicCall::PaymentCallback, _) => guard.check(peer, request.headers()),
            RouteMatch::Call(..) | RouteMatch::OtherMethods(_) | RouteMatch::Nothing => {
                guard.charge(peer, request.headers())
            }
        };
        passed.map_err(refused)?;
        let (call, variable) = match found {
            RouteMatch::Call(call, variable) => (call, variable.unwrap_or_default()),
            RouteMatch::OtherMethods(allow) => {
                refuse(engine, &Code::MethodNotAllowed.into(), RefusalLog::Line(request_id, path));
                return Err(Box::new(reply::method_not_allowed(&allow)));
            }
            RouteMatch::Nothing => return Err(refused(Code::NotFound.into())),
        };
        let principal = match call {
            PublicCall::PlaceOrder
            | PublicCall::Orders
            | PublicCall::Order
            | PublicCall::Cancel
            | PublicCall::NewToken
            | PublicCall::Token => Some(guard.principal(peer, request.headers()).map_err(refused)?),
            PublicCall::PaymentCallback
            | PublicCall::Sale
            | PublicCall::Capabilities
            | PublicCall::Problem
            | PublicCall::OpenApi => None,
        };
        Ok(RoutedRequest { request_id, call, variable, peer, principal })
    }

    /// The span of a call that changes an order, if it is sampled. It begins when the sender is known, so that strangers cannot
    /// fill the log.
    fn span(&self, request_id: RequestId, call: PublicCall) -> Span {
        match call {
            PublicCall::PlaceOrder | PublicCall::Cancel => operation(&self.intake.sampler, request_id, CALLS, call),
            // Its sender is known when its signature is read.
            PublicCall::PaymentCallback
            | PublicCall::Orders
            | PublicCall::Order
            | PublicCall::Sale
            | PublicCall::NewToken
            | PublicCall::Token
            | PublicCall::Capabilities
            | PublicCall::Problem
            | PublicCall::OpenApi => Span::none(),
        }
    }

    async fn call(
        &self,
        span: &Span,
        routed: RoutedRequest<'_, '_>,
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        let Intake { engine, guard, .. } = &*self.intake;
        let RoutedRequest { request_id, call, variable, peer, principal } = routed;
        let principal = || principal.ok_or(Code::Unauthenticated);
        match call {
            PublicCall::PlaceOrder => place::place(engine, request_id, span, principal()?, request).await,
            PublicCall::Orders => queries::orders(engine, principal()?, request).await,
            PublicCall::Order => queries::order(engine, principal()?, variable).await,
            PublicCall::Cancel => steps::cancel(engine, request_id, span, principal()?, variable, request).await,
            PublicCall::PaymentCallback => {
                let span = || operation(&self.intake.sampler, request_id, CALLS, call);
                let sender = callbacks::Sender { guard, peer, request_id };
                callbacks::callback(engine, &self.providers, sender, span, variable, request).await
            }
            PublicCall::Sale => queries::sale(engine, variable).await,
            PublicCall::NewToken => tokens::post(engine, principal()?, variable, request).await,
            PublicCall::Token => tokens::get(engine, principal()?, &request),
            PublicCall::Capabilities => Ok(queries::capabilities()),
            PublicCall::Problem => reply::problem_page(variable).ok_or(Code::NotFound.into()),
            PublicCall::OpenApi => Ok(reply::ok_document("application/yaml; charset=utf-8", OPENAPI)),
        }
    }

    fn refused(&self, request_id: RequestId, refusal: &Refusal, path: &str) -> Answer {
        refuse(&self.intake.engine, refusal, RefusalLog::Line(request_id, path));
        reply::refusal(refusal)
    }
}

impl Handle for HttpIntake {
    async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        let request_id = RequestId::next();
        // The path is copied, because the request moves into the call.
        let path = plain_path(request.uri().path());
        match self.route(request_id, peer.ip(), &request, &path) {
            Ok(routed) => {
                let span = self.span(request_id, routed.call);
                // A call is large, and to instrument it moves it: only the sampled ones pay for that.
                let answer = if span.is_disabled() {
                    self.call(&span, routed, request).await
                } else {
                    Box::pin(self.call(&span, routed, request)).instrument(span.clone()).await
                };
                match answer {
                    Ok(answer) => answer,
                    Err(refusal) => {
                        span.record("code", refusal.code.as_str());
                        self.refused(request_id, &refusal, &path)
                    }
                }
            }
            Err(answer) if discard(request).await => *answer,
            Err(answer) => reply::closing(*answer),
        }
    }

    fn panicked(&self) -> Answer {
        self.intake.engine.count_panic();
        reply::refusal(&Code::UnknownOutcome.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_fits_its_method() {
        for route in CALLS {
            assert!(route.is_sound(), "{} {}: {:?}", route.method, route.path, route.policy);
        }
    }
}
