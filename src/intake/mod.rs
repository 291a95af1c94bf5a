//! The public listener: bytes to a typed command, and the answer back to bytes. Owns no I/O of its own: whatever must
//! be finished is handed to the engine.

mod callbacks;
mod place;
mod principal;
mod reading;
mod steps;

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;

use crate::engine::Engine;
use crate::order::{Code, Refusal};
use crate::payment::Providers;
use crate::reply::{self, Answer};
use crate::server::{Found, Handle, Repeat, Route, Router};

/// The contract, word by word.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// A call of the public listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    PlaceOrder,
    Orders,
    Order,
    Cancel,
    PaymentCallback,
    Sale,
    Capabilities,
    Problem,
    OpenApi,
}

const CALLS: &[Route<Call>] = &[
    Route::new(Method::POST, "/v1/orders", Call::PlaceOrder, Repeat::Derived),
    Route::new(Method::GET, "/v1/orders", Call::Orders, Repeat::Reads),
    Route::new(Method::GET, "/v1/orders/{order_no}", Call::Order, Repeat::Reads),
    Route::new(Method::POST, "/v1/orders/{order_no}/cancel", Call::Cancel, Repeat::Keyed),
    Route::new(
        Method::POST,
        "/v1/payments/callbacks/{provider}",
        Call::PaymentCallback,
        Repeat::Named("the provider's id of the event"),
    ),
    Route::new(Method::GET, "/v1/sales/{sale_id}", Call::Sale, Repeat::Reads),
    Route::new(Method::GET, "/v1/capabilities", Call::Capabilities, Repeat::Reads),
    Route::new(Method::GET, "/problems/{code}", Call::Problem, Repeat::Reads),
    Route::new(Method::GET, "/openapi.yaml", Call::OpenApi, Repeat::Reads),
];

/// Serves the public listener.
pub struct Intake {
    engine: Arc<Engine>,
    providers: Providers,
    router: Router<Call>,
}

impl Intake {
    /// An intake in front of `engine` that hears `providers`; fails only if the table of calls is wrong.
    pub fn new(engine: Arc<Engine>, providers: Providers) -> Result<Self, matchit::InsertError> {
        Ok(Intake { engine, providers, router: Router::new(CALLS)? })
    }

    async fn call(&self, call: Call, variable: &str, request: Request<Incoming>) -> Result<Answer, Refusal> {
        match call {
            Call::PlaceOrder => place::place(&self.engine, request).await,
            Call::Orders => reading::orders(&self.engine, request).await,
            Call::Order => reading::order(&self.engine, request.headers(), variable).await,
            Call::Cancel => steps::cancel(&self.engine, variable, request).await,
            Call::PaymentCallback => callbacks::callback(&self.engine, &self.providers, variable, request).await,
            Call::Sale => reading::sale(&self.engine, variable).await,
            Call::Capabilities => Ok(reading::capabilities()),
            Call::Problem => reply::problem_page(variable).ok_or(Code::NotFound.into()),
            Call::OpenApi => Ok(reply::ok_document("application/yaml; charset=utf-8", OPENAPI)),
        }
    }
}

impl Handle for Intake {
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        // The path is kept apart: the request goes to the call that it names.
        let path = request.uri().path().to_owned();
        let answered = match self.router.find(request.method(), &path) {
            Found::Call(call, variable) => self.call(call, variable.unwrap_or_default(), request).await,
            Found::OtherMethods(allow) => {
                self.engine.metrics().refuse(Code::MethodNotAllowed);
                return reply::method_not_allowed(&allow);
            }
            Found::Nothing => Err(Code::NotFound.into()),
        };
        answered.unwrap_or_else(|refusal| {
            self.engine.metrics().refuse(refusal.code);
            if reply::status(refusal.code).is_server_error() {
                // Orders have a line of their own, which tells more.
                tracing::warn!(code = refusal.code.as_str(), path, "request not answered");
            }
            reply::refusal(&refusal)
        })
    }

    fn panicked(&self) -> Answer {
        self.engine.count_panic();
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
