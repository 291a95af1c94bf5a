//! The admin listener: operators, probes, metrics, the dashboard.

mod metrics;
mod sales;
mod steps;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::json;
use tracing::Instrument;

use crate::command::{IdempotencyPolicy, RequestId};
use crate::engine::Engine;
use crate::http::{Answer, Handle, Route, RouteMatch, Router, UrlQuery, plain_path};
use crate::intake::{RefusalLog, operation, refuse};
use crate::ledger::Check;
use crate::order::{Code, Key, OrderNo, Refusal, Step, Switch, UserId};
use crate::reply;
use crate::trace::Sampler;

/// A call of the admin listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminCall {
    Dashboard,
    CreateSale,
    Sales,
    Sale,
    Restock,
    Switch(Switch),
    Order,
    FindOrder,
    History,
    Take(Step),
    Verify,
    Live,
    Ready,
    Metrics,
    Problem,
}

const CALLS: &[Route<AdminCall>] = &[
    Route::new(Method::GET, "/", AdminCall::Dashboard, IdempotencyPolicy::Read),
    Route::new(Method::POST, "/admin/v1/sales", AdminCall::CreateSale, IdempotencyPolicy::BusinessId("sale_id")),
    Route::new(Method::GET, "/admin/v1/sales", AdminCall::Sales, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/admin/v1/sales/{sale_id}", AdminCall::Sale, IdempotencyPolicy::Read),
    Route::new(
        Method::POST,
        "/admin/v1/sales/{sale_id}/restock",
        AdminCall::Restock,
        IdempotencyPolicy::BusinessId("change_id"),
    ),
    Route::new(
        Method::POST,
        "/admin/v1/sales/{sale_id}/pause",
        AdminCall::Switch(Switch::Paused),
        IdempotencyPolicy::Declarative,
    ),
    Route::new(
        Method::POST,
        "/admin/v1/sales/{sale_id}/resume",
        AdminCall::Switch(Switch::Running),
        IdempotencyPolicy::Declarative,
    ),
    Route::new(
        Method::POST,
        "/admin/v1/sales/{sale_id}/end",
        AdminCall::Switch(Switch::Ended),
        IdempotencyPolicy::Declarative,
    ),
    Route::new(Method::GET, "/admin/v1/orders/{order_no}", AdminCall::Order, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/admin/v1/orders", AdminCall::FindOrder, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/admin/v1/orders/{order_no}/history", AdminCall::History, IdempotencyPolicy::Read),
    Route::new(Method::POST, "/admin/v1/orders/{order_no}/ship", AdminCall::Take(Step::Ship), IdempotencyPolicy::Key),
    Route::new(
        Method::POST,
        "/admin/v1/orders/{order_no}/refund",
        AdminCall::Take(Step::Refund),
        IdempotencyPolicy::Key,
    ),
    Route::new(Method::GET, "/admin/v1/verify", AdminCall::Verify, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/healthz", AdminCall::Live, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/readyz", AdminCall::Ready, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/metrics", AdminCall::Metrics, IdempotencyPolicy::Read),
    Route::new(Method::GET, "/problems/{code}", AdminCall::Problem, IdempotencyPolicy::Read),
];

/// Serves the admin listener.
pub struct AdminHandler {
    engine: Arc<Engine>,
    router: Router<AdminCall>,
    metrics: metrics::MetricsRegistry,
    /// Hash of the bearer token, if one is required: hashes compare in constant time.
    token: Option<blake3::Hash>,
    /// Shards of sales that name none.
    shards: u16,
    draining: AtomicBool,
    sampler: Arc<Sampler>,
}

impl AdminHandler {
    /// An admin listener that requires `token`, if there is one. Fails only if the table of calls is wrong.
    pub fn new(
        engine: Arc<Engine>,
        token: Option<&str>,
        shards: u16,
        sampler: Arc<Sampler>,
    ) -> Result<Self, matchit::InsertError> {
        Ok(AdminHandler {
            router: Router::new(CALLS)?,
            metrics: metrics::MetricsRegistry::new(engine.clone()),
            engine,
            token: token.map(|token| blake3::hash(token.as_bytes())),
            shards,
            draining: AtomicBool::new(false),
            sampler,
        })
    }

    /// From now on `/readyz` answers 503, so that load balancers send no new work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    async fn call(
        &self,
        request_id: RequestId,
        call: AdminCall,
        variable: &str,
        request: Request<Incoming>,
    ) -> Result<Answer, Refusal> {
        same_origin(request.headers())?;
        if self.token.is_none() && !matches!(call, AdminCall::Live | AdminCall::Ready) {
            own_name(request.headers())?;
        }
        // Probes carry no credentials and show one word only. The pages hold no data: a browser that opens the dashboard
        // cannot send the token, which the page then asks for.
        if !matches!(call, AdminCall::Live | AdminCall::Ready | AdminCall::Problem | AdminCall::Dashboard) {
            self.authorize(request.headers())?;
        }
        match call {
            AdminCall::Dashboard => Ok(reply::dashboard(include_str!("dashboard.html"))),
            AdminCall::CreateSale => sales::create(&self.engine, self.shards, request).await,
            AdminCall::Sales => Ok(reply::ok_json(reply::sales(&self.engine.sales().await?))),
            AdminCall::Sale => Ok(reply::ok_json(reply::sale(&self.engine.sale(variable).await?))),
            AdminCall::Restock => sales::restock(&self.engine, variable, request).await,
            AdminCall::Switch(switch) => sales::switch(&self.engine, variable, switch, request).await,
            AdminCall::Order => {
                let order_no = OrderNo::parse(variable).ok_or(Code::OrderNotFound)?;
                Ok(reply::ok_json(reply::order(&self.engine.order(None, order_no).await?)))
            }
            AdminCall::History => {
                let order_no = OrderNo::parse(variable).ok_or(Code::OrderNotFound)?;
                Ok(reply::ok_json(reply::history(&self.engine.history(order_no).await?)))
            }
            AdminCall::Take(step) => {
                let span = operation(&self.sampler, request_id, CALLS, call);
                let work = steps::take(&self.engine, request_id, &span, step, variable, request);
                let taken = work.instrument(span.clone()).await;
                taken.inspect_err(|refusal| {
                    span.record("code", refusal.code.as_str());
                })
            }
            AdminCall::FindOrder => self.find_order(request.uri().query()).await,
            AdminCall::Verify => {
                let query = UrlQuery::parse(request.uri().query());
                // An empty sale_id is a mistake, and does not ask for every sale.
                let sale_id = query.get("sale_id")?.map(|_| query.need("sale_id")).transpose()?;
                Ok(reply::ok_json(report(&self.engine.verify(sale_id).await?)))
            }
            AdminCall::Live => Ok(reply::probe(true, "live\n")),
            AdminCall::Ready => Ok(self.ready().await),
            AdminCall::Problem => reply::problem_page(variable).ok_or(Code::NotFound.into()),
            AdminCall::Metrics => Ok(reply::ok_document(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.metrics.text(),
            )),
        }
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(expected) = self.token else { return Ok(()) };
        let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(BEARER.len()));
        match sent {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(BEARER) && blake3::hash(token) == expected => Ok(()),
            _ => Err(Refusal::because(Code::Unauthenticated, "send Authorization: Bearer with the admin token")),
        }
    }

    async fn ready(&self) -> Answer {
        if self.draining.load(Ordering::Relaxed) {
            reply::probe(false, "draining\n")
        } else if !self.engine.is_ready().await {
            reply::probe(false, "ledger unavailable\n")
        } else {
            reply::probe(true, "ready\n")
        }
    }

    async fn find_order(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let query = UrlQuery::parse(query);
        let (sale_id, user) = (query.need("sale_id")?, query.need("user_id")?);
        let user = UserId::parse(user)
            .map_err(|_| Refusal::because(Code::MalformedRequest, "user_id must be an integer from 1 to 2^63 - 1"))?;
        let key = Key::parse(query.need("idempotency_key")?.as_bytes())?;
        Ok(reply::ok_json(reply::order(&self.engine.order_by_key(user, sale_id, &key).await?)))
    }
}

const BEARER: &[u8] = b"Bearer ";

/// Refuses what a browser sends for a page of another site: on loopback no token keeps it out.
fn same_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if authority.is_some() && authority == host {
        Ok(())
    } else {
        Err(Refusal::because(Code::Forbidden, "this listener takes no requests from pages of other sites"))
    }
}

/// Refuses a request to a name other than `localhost`: the owner of a name can have it point at this machine after a browser has
/// loaded a page from it (DNS rebinding), and the page is then of the same origin. An address cannot be made to point elsewhere.
fn own_name(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_own = |line: &HeaderValue| {
        let Ok(authority) = Authority::try_from(line.as_bytes()) else { return false };
        let host = authority.host();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    };
    if headers.get_all(header::HOST).iter().all(is_own) {
        Ok(())
    } else {
        Err(Refusal::because(
            Code::Forbidden,
            "this listener requires no token: call it by its address or as localhost",
        ))
    }
}

/// The audit as a document.
fn report(checks: &[Check]) -> Vec<u8> {
    let ok = checks.iter().all(|check| check.ok);
    let checks: Vec<_> =
        checks.iter().map(|check| json!({ "name": check.name, "ok": check.ok, "detail": check.detail })).collect();
    json!({ "ok": ok, "checks": checks }).to_string().into_bytes()
}

impl Handle for AdminHandler {
    async fn handle(&self, _: SocketAddr, request: Request<Incoming>) -> Answer {
        let request_id = RequestId::next();
        let path = plain_path(request.uri().path());
        let refuse = |refusal: &Refusal| refuse(&self.engine, refusal, RefusalLog::Line(request_id, &path));
        let answered = match self.router.find(request.method(), &path) {
            RouteMatch::Call(call, variable) => {
                self.call(request_id, call, variable.unwrap_or_default(), request).await
            }
            RouteMatch::OtherMethods(allow) => {
                refuse(&Code::MethodNotAllowed.into());
                return reply::method_not_allowed(&allow);
            }
            RouteMatch::Nothing => Err(Code::NotFound.into()),
        };
        answered.unwrap_or_else(|refusal| {
            refuse(&refusal);
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
    fn addresses_and_localhost_are_own_names() {
        let is_own = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (header::HOST, line.parse().unwrap()));
            own_name(&HeaderMap::from_iter(lines)).is_ok()
        };
        let own = ["127.0.0.1", "127.0.0.1:9090", "[::1]", "[::1]:9090", "localhost", "LocalHost:9090", "10.0.0.7:1"];
        for host in own {
            assert!(is_own(&[host]), "{host}");
        }
        assert!(is_own(&[]));
        for host in
            ["evil.example", "evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example", "", "é", "a b"]
        {
            assert!(!is_own(&[host]), "{host}");
        }
        let mut two = HeaderMap::new();
        two.append(header::HOST, HeaderValue::from_static("127.0.0.1"));
        two.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(own_name(&two).is_err());
    }

    #[test]
    fn every_policy_fits_its_method() {
        for route in CALLS {
            assert!(route.is_sound(), "{} {}: {:?}", route.method, route.path, route.policy);
            let is_step = matches!(route.call, AdminCall::Take(_));
            assert_eq!(
                is_step,
                route.policy == IdempotencyPolicy::Key,
                "{}: a call that carries a key is a step",
                route.path
            );
        }
    }
}
