//! Redis's protocol, as far as tests speak it.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Text(String),
    /// A string that is not UTF-8.
    Bytes(Vec<u8>),
    Error(String),
    Number(i64),
    Nil,
    Rows(Vec<Reply>),
}

impl Reply {
    /// Wants a text.
    #[track_caller]
    pub fn text(self) -> String {
        match self {
            Reply::Text(text) => text,
            other => panic!("a text: {other:?}"),
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Reply::Text(text) => text.into_bytes(),
            Reply::Bytes(bytes) => bytes,
            other => panic!("a string: {other:?}"),
        }
    }
}

impl From<Reply> for () {
    fn from(_: Reply) {}
}

impl From<Reply> for String {
    fn from(reply: Reply) -> String {
        reply.text()
    }
}

impl From<Reply> for u64 {
    fn from(reply: Reply) -> u64 {
        match reply {
            Reply::Number(number) => u64::try_from(number).unwrap(),
            other => panic!("a number: {other:?}"),
        }
    }
}

impl From<Reply> for BTreeMap<Vec<u8>, Vec<u8>> {
    fn from(reply: Reply) -> Self {
        let Reply::Rows(rows) = reply else { panic!("a hash: {reply:?}") };
        let mut rows = rows.into_iter().map(Reply::bytes);
        std::iter::from_fn(|| rows.next().zip(rows.next())).collect()
    }
}

/// A request as it stands on the wire.
pub fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

/// Asks one thing.
pub fn ask<S: Read + Write>(mut stream: S, words: &[&str]) -> io::Result<Reply> {
    stream.write_all(&request(words))?;
    read(&mut BufReader::new(stream))
}

/// A connection to a port, patient for `patience`.
pub fn connect(to: SocketAddr, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

/// Reads one reply.
pub fn read(from: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line).into_owned();
    let Some(line) = line.strip_suffix("\r\n") else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed within an answer"));
    };
    let (kind, rest) = line.split_at(1);
    let number = || rest.parse::<i64>().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, line.to_owned()));
    Ok(match kind {
        "+" => Reply::Text(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Number(number()?),
        _ if number()? < 0 => Reply::Nil,
        "$" => {
            let mut bytes = vec![0; usize::try_from(number()?).unwrap() + 2];
            from.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            String::from_utf8(bytes).map_or_else(|error| Reply::Bytes(error.into_bytes()), Reply::Text)
        }
        "*" => Reply::Rows((0..number()?).map(|_| read(from)).collect::<io::Result<_>>()?),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, line.to_owned())),
    })
}
