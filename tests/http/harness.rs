//! The harness itself: its checks can fail, and its clock reads back what it writes.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use crate::client::Client;
use crate::server::{Server, assert_no_bug_counted};
use crate::time::{format, parse};

/// The check of the metric, held against a server that answers this page once.
fn is_accepted(page: &'static str) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = BufReader::new(stream.try_clone().unwrap());
        assert!(request.lines().any(|line| line.unwrap().is_empty()), "the end of the head");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}", page.len()).unwrap();
    });
    let check = std::thread::spawn(move || assert_no_bug_counted(&mut Client::new(to, None), None));
    answers.join().unwrap();
    check.join().is_ok()
}

#[test]
fn a_server_that_counted_a_bug_fails_its_test() {
    assert!(is_accepted("# TYPE rushgate_bugs counter\nrushgate_bugs_total 0\n# EOF\n"));
    assert!(!is_accepted("# TYPE rushgate_bugs counter\nrushgate_bugs_total 1\n# EOF\n"));
    assert!(!is_accepted("# EOF\n"), "a page without the metric");
    Server::start().finish();
}

#[test]
fn dates_read_back() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_001, "2000-02-29T00:00:00.001Z"),
        (1_795_176_000_000, "2026-11-20T12:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
    ] {
        assert_eq!(format(ms), text);
        assert_eq!(parse(text), ms);
    }
}
