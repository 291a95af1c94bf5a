//! The client against a server of a few lines, which says one thing and remembers the request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use super::*;

/// Answers one connection with `answer` and gives back what was sent.
pub(in crate::cli) fn server_saying(answer: &str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, answer) = (listener.local_addr().unwrap(), answer.to_owned());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !is_whole(&request) {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the client left early");
            request.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, server)
}

/// An answer with a body.
pub(in crate::cli) fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The client of a test server.
pub(in crate::cli) fn client(address: SocketAddr, token: Option<&str>) -> Client {
    Client::new(&format!("http://{address}/"), token.map(Secret::new)).unwrap()
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

fn text_of<T>(result: Result<T, CommandError>) -> (u8, String) {
    match result.err().unwrap() {
        CommandError::NotDone(text) => (1, text),
        CommandError::Unbalanced => (1, String::new()),
        CommandError::Usage(text) => (2, text),
        CommandError::Unreachable(text) => (3, text),
    }
}

#[test]
fn a_call_carries_what_the_contract_asks_for() {
    let (address, server) = server_saying(&answer("201 Created", r#"{"sale_id": "s"}"#));
    let got = client(address, Some("0123456789abcdef")).post("/admin/v1/sales", r#"{"a": 1}"#).unwrap();
    assert_eq!((got.status, got.text().as_str()), (StatusCode::CREATED, r#"{"sale_id": "s"}"#));
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /admin/v1/sales HTTP/1.1\r\n"), "{request}");
    for part in [
        format!("host: {address}\r\n"),
        "authorization: Bearer 0123456789abcdef\r\n".to_owned(),
        "content-type: application/json\r\n".to_owned(),
        "\r\n\r\n{\"a\": 1}".to_owned(),
    ] {
        assert!(request.contains(&part), "{part} in {request}");
    }
}

#[test]
fn a_refusal_is_told_in_one_line() {
    let table = [
        (
            answer("404 Not Found", r#"{"title": "No such sale", "code": "sale_not_found", "detail": "x\u001b[2J"}"#),
            "refused: No such sale (sale_not_found): x [2J",
        ),
        (
            answer("401 Unauthorized", r#"{"title": "Who are you", "code": "unauthenticated", "status": 401}"#),
            "refused: Who are you (unauthenticated); set RUSHGATE_ADMIN_TOKEN or --admin-token",
        ),
        (answer("302 Found", "<html>"), "refused: HTTP 302 Found, which is not an answer of rushgate's admin listener"),
    ];
    for (answer, want) in table {
        let (address, server) = server_saying(&answer);
        assert_eq!(text_of(client(address, None).get("/")), (1, want.to_owned()));
        server.join().unwrap();
    }
}

#[test]
fn nobody_there_is_exit_code_3() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = text_of(client(address, None).get("/"));
    let want = format!("cannot reach http://{address}: connection refused; is `rushgate serve` running?");
    assert_eq!((code, text), (3, want));
}

#[test]
fn a_change_without_a_whole_answer_is_unknown() {
    for broken in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "SSH-2.0-x\r\n"] {
        let (address, server) = server_saying(broken);
        let (code, text) = text_of(client(address, None).post("/", "{}"));
        assert!(code == 3 && text.ends_with("the same command again settles it"), "{text}");
        server.join().unwrap();
    }
    let (address, server) = server_saying("");
    assert!(!text_of(client(address, None).get("/")).1.contains("settles"));
    server.join().unwrap();
}

#[test]
fn only_a_plain_http_address_is_a_server() {
    for bad in ["", "127.0.0.1:9090", "https://a", "http://", "http://a/admin", "http://u:p@a", "http://a?b", "ftp://a"]
    {
        assert_eq!(text_of(Client::new(bad, None)).0, 2, "{bad}");
    }
    let client = Client::new("http://[::1]:9", None).unwrap();
    assert_eq!((client.host.as_str(), client.port, client.authority.to_str().unwrap()), ("::1", 9, "[::1]:9"));
    assert_eq!(Client::new("http://a", None).unwrap().port, 80);
    let (code, text) = text_of(Client::new("http://a", Some(Secret::new("hun\nter2"))));
    assert!(code == 2 && !text.contains("ter2"), "{text}");
}
