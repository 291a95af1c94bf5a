//! Where requests and replies begin and end on the wire, and what a request says: enough of RESP2 and of PostgreSQL's
//! protocol 3 to find the moment at which a test wants something to happen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Redis,
    Postgres,
}

/// A piece that is passed on as a whole.
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Redis: the command and its arguments. PostgreSQL: the SQL that this executes, however it was prepared; behind a
    /// COMMIT stands the SQL of its transaction.
    pub(crate) words: Vec<String>,
    /// Whether it ends a unit: units of requests are answered, one by one, by units of replies.
    pub(crate) ends: bool,
}

/// What both directions of a PostgreSQL connection must know: answers to requests for encryption are one bare byte.
pub(crate) type Bare = AtomicUsize;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// The client's direction.
pub(crate) struct Requests {
    protocol: Protocol,
    buffer: Vec<u8>,
    has_started: bool,
    /// PostgreSQL: what was prepared under each name.
    prepared: HashMap<Vec<u8>, String>,
    /// PostgreSQL: what was executed since the last BEGIN.
    transaction: Vec<String>,
}

impl Requests {
    pub(crate) fn new(protocol: Protocol) -> Self {
        let (prepared, transaction) = (HashMap::new(), Vec::new());
        Requests { protocol, buffer: Vec::new(), has_started: false, prepared, transaction }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self, bare: &Bare) -> Option<Frame> {
        match self.protocol {
            Protocol::Redis => {
                let (length, words) = command(&self.buffer)?;
                Some(Frame { bytes: self.buffer.drain(..length).collect(), words, ends: true })
            }
            Protocol::Postgres if !self.has_started => {
                let length = number(&self.buffer, 0)? as usize;
                let code = number(&self.buffer, 4)?;
                if self.buffer.len() < length {
                    return None;
                }
                let asks_for_encryption = code == SSL_REQUEST || code == GSS_REQUEST;
                self.has_started = !asks_for_encryption;
                if asks_for_encryption {
                    bare.fetch_add(1, Ordering::SeqCst);
                }
                let bytes = self.buffer.drain(..length).collect();
                Some(Frame { bytes, words: Vec::new(), ends: !asks_for_encryption })
            }
            Protocol::Postgres => {
                let bytes = message(&mut self.buffer)?;
                let words = self.sql(&bytes).map(|sql| self.words(sql)).unwrap_or_default();
                // A simple query, or the Sync behind an extended one.
                let ends = matches!(bytes[0], b'Q' | b'S');
                Some(Frame { bytes, words, ends })
            }
        }
    }

    fn words(&mut self, sql: String) -> Vec<String> {
        match &*sql {
            "BEGIN" => self.transaction.clear(),
            "COMMIT" => return std::iter::once(sql).chain(self.transaction.drain(..)).collect(),
            _ => self.transaction.push(sql.clone()),
        }
        vec![sql]
    }

    fn sql(&mut self, message: &[u8]) -> Option<String> {
        let mut texts = message[5..].split(|byte| *byte == 0);
        let (first, second) = (texts.next()?, texts.next()?);
        match message[0] {
            b'Q' => Some(plain(first)),
            b'P' => {
                self.prepared.insert(first.to_vec(), plain(second));
                None
            }
            // Portal, statement.
            b'B' => self.prepared.get(second).cloned(),
            _ => None,
        }
    }
}

/// The server's direction.
pub(crate) struct Replies {
    protocol: Protocol,
    buffer: Vec<u8>,
}

impl Replies {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Replies { protocol, buffer: Vec::new() }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(crate) fn next(&mut self, bare: &Bare) -> Option<Frame> {
        match self.protocol {
            Protocol::Redis => {
                let length = reply(&self.buffer)?;
                Some(Frame { bytes: self.buffer.drain(..length).collect(), words: Vec::new(), ends: true })
            }
            Protocol::Postgres => {
                let is_bare = |left: usize| left.checked_sub(1);
                if !self.buffer.is_empty() && bare.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_bare).is_ok() {
                    return Some(Frame { bytes: vec![self.buffer.remove(0)], words: Vec::new(), ends: false });
                }
                let bytes = message(&mut self.buffer)?;
                // ReadyForQuery.
                let ends = bytes[0] == b'Z';
                Some(Frame { bytes, words: Vec::new(), ends })
            }
        }
    }
}

/// One line, each run of white space a single space.
fn plain(sql: &[u8]) -> String {
    String::from_utf8_lossy(sql).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A PostgreSQL message: a letter, a length that counts itself, the rest.
fn message(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = 1 + number(buffer, 1)? as usize;
    (buffer.len() >= length).then(|| buffer.drain(..length).collect())
}

/// The first line of `bytes` and where the rest begins.
fn line(bytes: &[u8]) -> Option<(&str, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, end + 2))
}

/// A Redis command as client libraries send it: an array of texts.
fn command(bytes: &[u8]) -> Option<(usize, Vec<String>)> {
    let (first, mut at) = line(bytes)?;
    let count: usize = first.strip_prefix('*').and_then(|count| count.parse().ok()).expect("a command is an array");
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, start) = line(bytes.get(at..)?)?;
        let length: usize = length.strip_prefix('$').and_then(|length| length.parse().ok()).expect("of texts");
        let word = bytes.get(at + start..at + start + length)?;
        words.push(String::from_utf8_lossy(word).into_owned());
        at += start + length + 2;
    }
    (bytes.len() >= at).then_some((at, words))
}

/// The length of a Redis reply.
fn reply(bytes: &[u8]) -> Option<usize> {
    let (first, mut at) = line(bytes)?;
    let count = || first[1..].parse::<i64>().expect("a number");
    match first.as_bytes().first()? {
        b'$' => at += usize::try_from(count()).map_or(0, |length| length + 2),
        b'*' => {
            for _ in 0..count().max(0) {
                at += reply(bytes.get(at..)?)?;
            }
        }
        _ => {}
    }
    (bytes.len() >= at).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(protocol: Protocol, bytes: &[u8]) -> Vec<(Vec<String>, bool)> {
        let (mut requests, bare, mut found) = (Requests::new(protocol), Bare::default(), Vec::new());
        // Byte by byte, as a slow network would.
        for byte in bytes {
            requests.feed(&[*byte]);
            found.extend(std::iter::from_fn(|| requests.next(&bare)).map(|frame| (frame.words, frame.ends)));
        }
        found
    }

    #[test]
    fn redis_commands_and_replies_are_told_apart() {
        let both =
            [crate::redis::resp::request(&["SET", "a", "1\r\n2"]), crate::redis::resp::request(&["GET", "a"])].concat();
        let found = requests(Protocol::Redis, &both);
        assert_eq!(found[0].0, ["SET", "a", "1\r\n2"]);
        assert_eq!((found[1].0.as_slice(), found.len()), (["GET".to_owned(), "a".to_owned()].as_slice(), 2));

        let bytes = b"+OK\r\n$-1\r\n*2\r\n:1\r\n*1\r\n$2\r\n\r\n\r\n-ERR\r\n";
        let (mut replies, bare) = (Replies::new(Protocol::Redis), Bare::default());
        let mut lengths = Vec::new();
        for byte in bytes {
            replies.feed(&[*byte]);
            lengths.extend(std::iter::from_fn(|| replies.next(&bare)).map(|frame| frame.bytes.len()));
        }
        assert_eq!(lengths, [5, 5, 20, 6]);
    }

    #[test]
    fn sql_is_found_where_it_is_executed() {
        let message = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            [&[kind][..], &length, body].concat()
        };
        let startup = [&9_u32.to_be_bytes()[..], &196_608_u32.to_be_bytes(), &[0]].concat();
        let ssl = [&8_u32.to_be_bytes()[..], &SSL_REQUEST.to_be_bytes()].concat();
        let all = [
            ssl,
            startup,
            message(b'P', b"s1\0INSERT  INTO\n orders\0\0\0"),
            message(b'B', b"\0s1\0\0\0"),
            message(b'S', b""),
            message(b'Q', b"BEGIN\0"),
            message(b'Q', b"INSERT INTO stock\0"),
            message(b'Q', b"COMMIT\0"),
            message(b'Q', b"BEGIN\0"),
            message(b'Q', b"COMMIT\0"),
        ];
        let found = requests(Protocol::Postgres, &all.concat());
        let words: Vec<String> =
            found.iter().map(|(words, _)| words.join("; ")).filter(|sql| !sql.is_empty()).collect();
        let stock = "INSERT INTO stock";
        assert_eq!(words, ["INSERT INTO orders", "BEGIN", stock, "COMMIT; INSERT INTO stock", "BEGIN", "COMMIT"]);
        let ends: Vec<bool> = found.iter().map(|(_, ends)| *ends).collect();
        assert_eq!(ends, [false, true, false, false, true, true, true, true, true, true]);
    }
}
