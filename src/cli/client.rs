//! A small HTTP/1.1 client for the listeners, mostly the admin one: one connection, one request, one answer, all within a time. It
//! never repeats a request by itself.

use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::CommandError;
use super::screen::plain;
use crate::config::{ADMIN_TOKEN_VARIABLE, Env, SERVER_VARIABLE, Secret};
use crate::limits;

/// Where the admin listener is by default.
const SERVER_DEFAULT: &str = "http://127.0.0.1:9090";

/// Which server to ask.
#[derive(Args, Default)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerFlags {
    /// Admin address of the running server [env: RUSHGATE_SERVER] [default: http://127.0.0.1:9090]
    #[arg(long, value_name = "URL")]
    pub(super) server: Option<String>,
    /// What the admin listener asks for [env: RUSHGATE_ADMIN_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    admin_token: Option<String>,
}

/// A server to ask.
pub(super) struct Client {
    /// As the user wrote it.
    server: String,
    host: String,
    port: u16,
    authority: HeaderValue,
    token: Option<HeaderValue>,
    listener: Listener,
}

/// Which of the server's listeners is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listener {
    Admin,
    Public,
}

/// What the server answered, if it was no refusal.
pub(super) struct ServerAnswer {
    /// 200 or another 2xx.
    pub(super) status: StatusCode,
    body: Bytes,
}

/// The part of a problem document that is printed.
#[derive(Deserialize)]
struct ServerProblem {
    title: String,
    code: String,
    #[serde(default)]
    detail: Option<String>,
}

impl ServerFlags {
    /// The server that flags, environment and default agree on.
    pub(super) fn client(&self) -> Result<Client, CommandError> {
        let env = Env::of_process()?;
        let server = self.server.as_deref().or_else(|| env.get(SERVER_VARIABLE)).unwrap_or(SERVER_DEFAULT);
        let token = self.admin_token.as_deref().or_else(|| env.get(ADMIN_TOKEN_VARIABLE));
        Client::new(server, token.filter(|token| !token.is_empty()).map(Secret::new))
    }
}

impl Client {
    /// A client of the public listener.
    pub(super) fn public(server: &str) -> Result<Client, CommandError> {
        Ok(Client { listener: Listener::Public, ..Client::new(server, None)? })
    }

    /// Checks the address; connects to nothing yet.
    fn new(server: &str, token: Option<Secret>) -> Result<Client, CommandError> {
        let wrong = || CommandError::Usage(format!("--server {}: must be http://HOST:PORT", plain(server)));
        let uri: Uri = server.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
        if uri.scheme_str() != Some("http") || !is_bare {
            return Err(wrong());
        }
        Ok(Client {
            server: server.trim_end_matches('/').to_owned(),
            // An IPv6 address stands in brackets in a URL and without them everywhere else.
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::try_from(authority.as_str()).map_err(|_| wrong())?,
            token: token.as_ref().map(bearer).transpose()?,
            listener: Listener::Admin,
        })
    }

    /// Asks for `path`, query included.
    pub(super) fn get(&self, path: &str) -> Result<ServerAnswer, CommandError> {
        self.call(self.request(Method::GET, path, Bytes::new())?, limits::CLIENT_CALL_S)
    }

    /// Asks for an audit, which takes its time.
    pub(super) fn audit(&self, path: &str) -> Result<ServerAnswer, CommandError> {
        self.call(self.request(Method::GET, path, Bytes::new())?, limits::CLIENT_AUDIT_S)
    }

    /// Sends `body`, which is JSON.
    pub(super) fn post(&self, path: &str, body: impl Into<Bytes>) -> Result<ServerAnswer, CommandError> {
        self.call(self.request(Method::POST, path, body.into())?, limits::CLIENT_CALL_S)
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, CommandError> {
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = path.parse().map_err(|_| CommandError::Usage(format!("no path: {}", plain(path))))?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("rushgate/", env!("CARGO_PKG_VERSION"))));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        *request.method_mut() = method;
        Ok(request)
    }

    fn call(&self, request: Request<Full<Bytes>>, seconds: u64) -> Result<ServerAnswer, CommandError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::NotDone(format!("cannot start the client: {error}")))?;
        let is_change = request.method() != Method::GET;
        let exchange = async { tokio::time::timeout(Duration::from_secs(seconds), self.exchange(request)).await };
        let result = runtime.block_on(exchange);
        // A name that is still being looked up must not hold up the exit.
        runtime.shutdown_background();
        let answer = match result {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(self.no_answer(&format!("nothing within {seconds} s"), is_change)),
        };
        if answer.status.is_success() { Ok(answer) } else { Err(self.listener.refusal(&answer)) }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<ServerAnswer, CommandError> {
        let is_change = request.method() != Method::GET;
        let broken = |error: &dyn std::error::Error| self.no_answer(&error.to_string(), is_change);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(|error| broken(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), limits::CLIENT_ANSWER_BYTES_MAX).collect().await;
            Ok(ServerAnswer { status, body: body.map_err(|error| broken(error.as_ref()))?.to_bytes() })
        };
        // The task only drives the connection: the waiting request learns how it ends.
        let keep_going = async {
            drop(connection.await);
            pending().await
        };
        tokio::select! {
            answer = answer => answer,
            never = keep_going => never,
        }
    }

    async fn connect(&self) -> Result<TcpStream, CommandError> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        match tokio::time::timeout(Duration::from_secs(limits::CLIENT_CONNECT_S), connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                Err(self.unreachable("connection refused"))
            }
            Ok(Err(error)) => Err(self.unreachable(&error.to_string())),
            Err(_) => Err(self.unreachable("connection timed out")),
        }
    }

    fn unreachable(&self, why: &str) -> CommandError {
        CommandError::Unreachable(format!("cannot reach {}: {why}; is `rushgate serve` running?", self.server))
    }

    /// The request may have arrived: the outcome of a change is unknown, and every call that is made here is safe to repeat.
    fn no_answer(&self, why: &str, is_change: bool) -> CommandError {
        let advice = if is_change { "; it may have been done: the same command again settles it" } else { "" };
        CommandError::Unreachable(format!("no answer from {}: {}{advice}", self.server, plain(why)))
    }
}

impl ServerAnswer {
    /// The body as the type that the contract promises.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| CommandError::NotDone(format!("the server's answer is not what was expected: {error}")))
    }

    /// The body as it came, for `--json`.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, CommandError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| CommandError::Usage("the admin token holds a character that a header cannot".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Listener {
    fn refusal(self, answer: &ServerAnswer) -> CommandError {
        let (hint, listener) = match (self, answer.status) {
            (Listener::Admin, StatusCode::UNAUTHORIZED) => ("; set RUSHGATE_ADMIN_TOKEN or --admin-token", "admin"),
            (Listener::Public, StatusCode::UNAUTHORIZED) => {
                ("; the server must run with auth.mode none for this", "public")
            }
            (Listener::Admin, _) => ("", "admin"),
            (Listener::Public, _) => ("", "public"),
        };
        let text = match serde_json::from_slice::<ServerProblem>(&answer.body) {
            Ok(ServerProblem { title, code, detail: Some(detail) }) => format!("{title} ({code}): {detail}"),
            Ok(ServerProblem { title, code, detail: None }) => format!("{title} ({code})"),
            Err(_) => format!("HTTP {}, which is not an answer of rushgate's {listener} listener", answer.status),
        };
        CommandError::NotDone(format!("refused: {}{hint}", plain(&text)))
    }
}

#[cfg(test)]
pub(super) mod tests;
