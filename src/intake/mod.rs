//! The public listener: bytes to a typed command, and the answer back to bytes. Owns no I/O of its own: whatever must
//! be finished is handed to the engine.

mod key;
mod place;
mod principal;
mod reading;

use std::sync::Arc;

use http::{Method, Request};
use hyper::body::Incoming;

use crate::engine::Engine;
use crate::order::{Code, Refusal};
use crate::reply::{self, Answer};
use crate::server::{Found, Handle, Router};

/// The contract, word by word.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// A call of the public listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    PlaceOrder,
    Orders,
    Order,
    Sale,
    Capabilities,
    Problem,
    OpenApi,
}

const CALLS: &[(Method, &str, Call)] = &[
    (Method::POST, "/v1/orders", Call::PlaceOrder),
    (Method::GET, "/v1/orders", Call::Orders),
    (Method::GET, "/v1/orders/{order_no}", Call::Order),
    (Method::GET, "/v1/sales/{sale_id}", Call::Sale),
    (Method::GET, "/v1/capabilities", Call::Capabilities),
    (Method::GET, "/problems/{code}", Call::Problem),
    (Method::GET, "/openapi.yaml", Call::OpenApi),
];

/// Serves the public listener.
pub struct Intake {
    engine: Arc<Engine>,
    router: Router<Call>,
}

impl Intake {
    /// An intake in front of `engine`; fails only if the table of calls is wrong.
    pub fn new(engine: Arc<Engine>) -> Result<Self, matchit::InsertError> {
        Ok(Intake { engine, router: Router::new(CALLS)? })
    }

    async fn call(&self, call: Call, variable: &str, request: Request<Incoming>) -> Result<Answer, Refusal> {
        match call {
            Call::PlaceOrder => place::place(&self.engine, request).await,
            Call::Orders => reading::orders(&self.engine, request).await,
            Call::Order => reading::order(&self.engine, request.headers(), variable).await,
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
