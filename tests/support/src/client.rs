//! A small blocking HTTP/1.1 client: one keep-alive connection, no retries, no opinion on what it sends.
//!
//! It hides nothing that a test may want to see or to get wrong; hostile input goes out as raw bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for any byte: far above every time-out of the server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The server closes idle connections after 10 s; a new one is opened well before.
const REUSE: Duration = Duration::from_secs(4);

/// A request, built up by its methods.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

pub fn request(method: &str, target: impl Into<String>) -> Request {
    Request { method: method.into(), target: target.into(), headers: Vec::new(), body: None }
}

pub fn get(target: impl Into<String>) -> Request {
    request("GET", target)
}

pub fn post(target: impl Into<String>) -> Request {
    request("POST", target)
}

impl Request {
    /// Adds a header line, even if there is one of that name.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.header("Idempotency-Key", key)
    }

    /// A body without `Content-Type`.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Request { body: Some(body.into()), ..self }
    }

    /// A body that says it is JSON, whatever it is.
    pub fn text(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    pub fn json(self, body: &Value) -> Self {
        self.text(body.to_string())
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        match &self.body {
            Some(body) => bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes()),
            None if self.method == "GET" || self.method == "HEAD" => bytes.extend_from_slice(b"\r\n"),
            None => bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n"),
        }
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The header's value, if it was sent once; sending it twice fails the test.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let first = lines.next().map(|(_, value)| value.as_str());
        assert!(lines.next().is_none(), "{name} was sent twice: {self}");
        first
    }

    /// `Content-Type` without its parameters, in small letters.
    pub fn media_type(&self) -> String {
        let value = self.header("Content-Type").unwrap_or("");
        value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
    }

    /// The body, read strictly.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self}"))
    }

    pub fn is_replayed(&self) -> bool {
        match self.header("Idempotency-Replayed") {
            None => false,
            Some("true") => true,
            Some(_) => panic!("Idempotency-Replayed is true or absent: {self}"),
        }
    }

    fn closes(&self) -> bool {
        self.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Reads one answer, passing over 1xx; `head`: it answers a HEAD and so has no body.
    fn read(from: &mut impl BufRead, head: bool) -> io::Result<Answer> {
        loop {
            let answer = Answer::read_any(from, head)?;
            if answer.status >= 200 {
                return Ok(answer);
            }
        }
    }

    fn read_any(from: &mut impl BufRead, head: bool) -> io::Result<Answer> {
        let status_line = line(from)?;
        let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let mut answer = Answer { status: status.ok_or_else(|| broken(&status_line))?, headers: vec![], body: vec![] };
        loop {
            let header = line(from)?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or_else(|| broken(&header))?;
            answer.headers.push((name.trim().into(), value.trim().into()));
        }
        if head || answer.status < 200 || answer.status == 204 || answer.status == 304 {
            return Ok(answer);
        }
        if answer.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            while let size @ 1.. = chunk_size(&line(from)?)? {
                take(from, size, &mut answer.body)?;
                line(from)?;
            }
            while !line(from)?.is_empty() {}
        } else if let Some(length) = answer.header("Content-Length") {
            let length = length.parse().map_err(|_| broken("Content-Length"))?;
            take(from, length, &mut answer.body)?;
        } else {
            from.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        write!(f, "\n{}", String::from_utf8_lossy(&self.body))
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.read_until(b'\n', &mut bytes)?;
    match bytes.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed within an answer")),
    }
}

fn take(from: &mut impl BufRead, length: u64, into: &mut Vec<u8>) -> io::Result<()> {
    match from.take(length).read_to_end(into) {
        Ok(n) if n as u64 == length => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed within a body")),
        Err(error) => Err(error),
    }
}

fn chunk_size(line: &str) -> io::Result<u64> {
    u64::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16).map_err(|_| broken(line))
}

fn broken(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

/// One keep-alive connection, opened when it is needed.
pub struct Client {
    to: SocketAddr,
    user: Option<u64>,
    connection: Option<(BufReader<TcpStream>, Instant)>,
}

impl Client {
    /// Says `X-User-Id: user` with every request, if given.
    pub fn new(to: SocketAddr, user: Option<u64>) -> Self {
        Client { to, user, connection: None }
    }

    /// Sends, and wants an answer.
    pub fn send(&mut self, request: Request) -> Answer {
        self.try_send(request.clone()).unwrap_or_else(|error| panic!("{error}: {request:?}"))
    }

    /// Sends once. An error means that there was no answer, which says nothing about what the server did.
    pub fn try_send(&mut self, request: Request) -> io::Result<Answer> {
        let request = match self.user {
            Some(user) => request.header("X-User-Id", user.to_string()),
            None => request,
        };
        let mut stream = match self.connection.take() {
            Some((stream, used)) if used.elapsed() < REUSE => stream,
            _ => BufReader::new(connect(self.to)?),
        };
        stream.get_mut().write_all(&request.bytes())?;
        let answer = Answer::read(&mut stream, request.method == "HEAD")?;
        if !answer.closes() {
            self.connection = Some((stream, Instant::now()));
        }
        Ok(answer)
    }
}

pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok(stream)
}

/// Sends raw bytes over a connection of their own; every answer until the server closes, or until we have `n`.
///
/// A server that refuses early may close while we still write, so errors of writing are not ours to judge.
pub fn raw(to: SocketAddr, bytes: &[u8], n: usize) -> Vec<Answer> {
    let mut stream = connect(to).unwrap();
    let written = stream.write_all(bytes);
    let mut from = BufReader::new(stream);
    let mut answers = Vec::new();
    while answers.len() < n {
        match Answer::read(&mut from, false) {
            Ok(answer) => answers.push(answer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("neither answered nor closed"),
            Err(_) => break,
        }
    }
    drop(written);
    answers
}

/// Sends raw bytes and hangs up without reading.
pub fn send_and_hang_up(to: SocketAddr, bytes: &[u8]) {
    let mut stream = connect(to).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
}

/// A text as it stands in a query: everything but letters and digits is escaped.
pub fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
