//! The public listener: bytes to a typed command, and the answer back to bytes. Owns no I/O of its own: whatever must
//! be finished is handed to the engine.

mod callbacks;
mod place;
mod queries;
mod steps;
mod tokens;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;

use super::guard::{Principal, RequestGuard};
use crate::engine::Engine;
use crate::http::{Found, Handle, IdempotencyPolicy, Route, Router, discard, plain_path};
use crate::order::{Code, Refusal};
use crate::payment::Providers;
use crate::reply::{self, Answer};

/// The contract, word by word.
const OPENAPI: &str = include_str!("../../../openapi.yaml");

/// A call of the public listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
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

const CALLS: &[Route<Call>] = &[
    Route::new(Method::POST, "/v1/orders", Call::PlaceOrder, IdempotencyPolicy::DerivedId),
    Route::new(Method::GET, "/v1/orders", Call::Orders, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/v1/orders/{order_no}", Call::Order, IdempotencyPolicy::Read),
    Route::new(Method::POST, "/v1/orders/{order_no}/cancel", Call::Cancel, IdempotencyPolicy::Key),
    Route::new(
        Method::POST,
        "/v1/payments/callbacks/{provider}",
        Call::PaymentCallback,
        IdempotencyPolicy::BusinessId("event_id"),
    ),
    Route::new(Method::GET, "/v1/sales/{sale_id}", Call::Sale, IdempotencyPolicy::Read),
    // Each call draws another token, and none of them is kept: nothing is changed by it.
    Route::new(Method::POST, "/v1/sales/{sale_id}/tokens", Call::NewToken, IdempotencyPolicy::Declarative),
    Route::new(Method::GET, "/api/token", Call::Token, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/v1/capabilities", Call::Capabilities, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/problems/{code}", Call::Problem, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/openapi.yaml", Call::OpenApi, IdempotencyPolicy::Read),
];

/// Serves the public listener.
pub struct Intake {
    parts: Parts,
    router: Router<Call>,
}

/// What the public listener is put together from.
pub struct Parts {
    /// What answers.
    pub engine: Arc<Engine>,
    /// Who may ask, and how often.
    pub guard: RequestGuard,
    /// Whose payment reports are heard.
    pub providers: Providers,
}

/// A request that may be answered.
struct RoutedRequest<'e, 'p> {
    call: Call,
    /// The variable part of its path, or nothing.
    variable: &'p str,
    /// Where it came from.
    peer: IpAddr,
    /// Who is asking, where the call needs to know.
    principal: Option<Principal<'e>>,
}

impl Intake {
    /// An intake; fails only if the table of calls is wrong.
    pub fn new(parts: Parts) -> Result<Self, matchit::InsertError> {
        Ok(Intake { parts, router: Router::new(CALLS)? })
    }

    /// Finds the call, and lets it in. What is turned away here is answered without a look at its body.
    fn admit<'p>(
        &self,
        peer: IpAddr,
        request: &Request<Incoming>,
        path: &'p str,
    ) -> Result<RoutedRequest<'_, 'p>, Box<Answer>> {
        let Parts { engine, guard, .. } = &self.parts;
        let refused = |refusal| Box::new(self.refused(&refusal, path));
        let found = self.router.find(request.method(), path);
        let passed = match found {
            // Providers have few addresses and, after a rush, much to report: only what they did not sign is counted.
            Found::Call(Call::PaymentCallback, _) => guard.check(peer, request.headers()),
            _ => guard.charge(peer, request.headers()),
        };
        passed.map_err(refused)?;
        let (call, variable) = match found {
            Found::Call(call, variable) => (call, variable.unwrap_or_default()),
            Found::OtherMethods(allow) => {
                engine.metrics().refuse(Code::MethodNotAllowed);
                return Err(Box::new(reply::method_not_allowed(&allow)));
            }
            Found::Nothing => return Err(refused(Code::NotFound.into())),
        };
        let principal = match call {
            Call::PlaceOrder | Call::Orders | Call::Order | Call::Cancel | Call::NewToken | Call::Token => {
                Some(guard.principal(peer, request.headers()).map_err(refused)?)
            }
            Call::PaymentCallback | Call::Sale | Call::Capabilities | Call::Problem | Call::OpenApi => None,
        };
        Ok(RoutedRequest { call, variable, peer, principal })
    }

    async fn call(&self, admitted: RoutedRequest<'_, '_>, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let engine = &self.parts.engine;
        let RoutedRequest { call, variable, peer, principal } = admitted;
        let principal = || principal.ok_or(Code::Unauthenticated);
        match call {
            Call::PlaceOrder => place::place(engine, principal()?, request).await,
            Call::Orders => queries::orders(engine, principal()?, request).await,
            Call::Order => queries::order(engine, principal()?, variable).await,
            Call::Cancel => steps::cancel(engine, principal()?, variable, request).await,
            Call::PaymentCallback => callbacks::callback(&self.parts, peer, variable, request).await,
            Call::Sale => queries::sale(engine, variable).await,
            Call::NewToken => tokens::post(engine, principal()?, variable, request).await,
            Call::Token => tokens::get(engine, principal()?, &request),
            Call::Capabilities => Ok(queries::capabilities()),
            Call::Problem => reply::problem_page(variable).ok_or(Code::NotFound.into()),
            Call::OpenApi => Ok(reply::ok_document("application/yaml; charset=utf-8", OPENAPI)),
        }
    }

    fn refused(&self, refusal: &Refusal, path: &str) -> Answer {
        self.parts.engine.metrics().refuse(refusal.code);
        if reply::status(refusal.code).is_server_error() {
            // Orders have a line of their own, which tells more.
            tracing::warn!(code = refusal.code.as_str(), path, "request not answered");
        }
        reply::refusal(refusal)
    }
}

impl Handle for Intake {
    async fn handle(&self, peer: SocketAddr, request: Request<Incoming>) -> Answer {
        // The path is kept apart: the request goes to the call that it names.
        let path = plain_path(request.uri().path());
        match self.admit(peer.ip(), &request, &path) {
            Ok(admitted) => match self.call(admitted, request).await {
                Ok(answer) => answer,
                Err(refusal) => self.refused(&refusal, &path),
            },
            Err(answer) if discard(request).await => *answer,
            Err(answer) => reply::closing(*answer),
        }
    }

    fn panicked(&self) -> Answer {
        self.parts.engine.count_panic();
        reply::refusal(&Code::UnknownOutcome.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_repeats_can_be_true() {
        for route in CALLS {
            assert!(route.is_sound(), "{} {}: {:?}", route.method, route.path, route.repeat);
        }
    }
}
