//! `token`: purchase tokens of a running server, and users that sign themselves, for load tools.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use ring::hmac;
use serde::Deserialize;
use serde_json::json;

use super::client::Client;
use super::sale::name;
use super::{CommandError, screen};
use crate::clock::{Clock, UnixMs};
use crate::limits;
use crate::order::UserId;

/// Where the public listener is by default.
const SERVER_DEFAULT: &str = "http://127.0.0.1:8080";

/// Make tokens and users for load tools
#[derive(Subcommand)]
#[command(after_help = "\
EXAMPLES
  rushgate token purchase --sale demo --users 1000 > tokens.csv
  rushgate token user --user 42 --secret-file jwt.secret")]
pub(super) enum TokenCommand {
    Purchase(Purchase),
    User(User),
}

/// Ask a running server in auth mode none for purchase tokens, one line `user_id,token` each
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate token purchase --sale demo --users 1000 > tokens.csv
  rushgate token purchase --sale demo --users 10 --first-user 501 --server http://127.0.0.1:8081")]
pub(super) struct Purchase {
    /// The sale
    #[arg(long, value_name = "SALE_ID", value_parser = name)]
    sale: String,
    /// How many users get a token
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=limits::CLIENT_USERS_MAX))]
    users: u64,
    /// The first of them; the others follow
    #[arg(long, value_name = "USER_ID", default_value = "1", value_parser = user)]
    first_user: UserId,
    /// Public address of the running server
    #[arg(long, value_name = "URL", default_value = SERVER_DEFAULT)]
    server: String,
}

/// Sign users for a server in auth mode jwt: one token, or with --users one line `user_id,token` each
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate token user --user 42 --secret-file jwt.secret
  rushgate token user --user 1 --users 1000 --ttl-s 600 --secret-file jwt.secret > users.csv")]
pub(super) struct User {
    /// The user, or the first of --users
    #[arg(long, value_name = "USER_ID", value_parser = user)]
    user: UserId,
    /// Sign so many users, numbered from --user
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=limits::CLIENT_USERS_MAX))]
    users: Option<u64>,
    /// Seconds until a token expires
    #[arg(long, value_name = "N", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..))]
    ttl_s: u32,
    /// File with the secret that the server checks HS256 tokens with; of several, separated by commas, the first signs
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
}

impl TokenCommand {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        match self {
            TokenCommand::Purchase(purchase) => purchase.run(),
            TokenCommand::User(user) => user.run(),
        }
    }
}

impl Purchase {
    fn run(&self) -> Result<(), CommandError> {
        #[derive(Deserialize)]
        struct GivenToken {
            token: String,
        }
        let client = Client::public(&self.server)?;
        let path = format!("/v1/sales/{}/tokens", self.sale);
        for user in users(self.first_user, self.users)? {
            let given: GivenToken = client.post(&path, json!({ "user_id": user.get() }).to_string())?.read()?;
            screen::out(&format!("{user},{}", screen::plain(&given.token)))?;
        }
        Ok(())
    }
}

impl User {
    fn run(&self) -> Result<(), CommandError> {
        let wrong = |why: String| CommandError::Usage(format!("{}: {why}", self.secret_file.display()));
        let text = std::fs::read_to_string(&self.secret_file).map_err(|error| wrong(error.to_string()))?;
        let secret = text.trim().split(',').next().unwrap_or_default();
        let bounds = limits::TOKEN_SECRET_BYTES;
        if !bounds.contains(&secret.len()) {
            let (fewest, most) = bounds.into_inner();
            return Err(wrong(format!(
                "the secret must have {fewest} characters or more, up to {most}: no server takes another"
            )));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let now_ms = Clock::System.now_ms();
        for user in users(self.user, self.users.unwrap_or(1))? {
            let token = signed(&key, user, now_ms, self.ttl_s);
            screen::out(&if self.users.is_some() { format!("{user},{token}") } else { token })?;
        }
        Ok(())
    }
}

/// A token as RFC 7519 has it, signed with HS256.
fn signed(key: &hmac::Key, user: UserId, now_ms: UnixMs, ttl_s: u32) -> String {
    let now_s = now_ms.div_euclid(1000);
    let claims = json!({ "sub": user.to_string(), "iat": now_s, "exp": now_s.saturating_add(i64::from(ttl_s)) });
    let head = json!({ "alg": "HS256", "typ": "JWT" });
    let said = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    format!("{said}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(key, said.as_bytes())))
}

fn users(first: UserId, count: u64) -> Result<impl Iterator<Item = UserId>, CommandError> {
    let first = first.get().unsigned_abs();
    let end = first.checked_add(count).filter(|end| UserId::new(end - 1).is_ok());
    let end = end.ok_or_else(|| CommandError::Usage("the last user is beyond 2^63 - 1".to_owned()))?;
    Ok((first..end).filter_map(|number| UserId::new(number).ok()))
}

fn user(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|_| "must be a whole number above 0 and below 2^63".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by another program: Python's `hmac` over the same words.
    #[test]
    fn a_user_is_signed_as_others_check_it() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
        let token = signed(&key, UserId::new(42).unwrap(), 1_795_176_000_999, 60);
        assert_eq!(token, GOLDEN);
    }

    const GOLDEN: &str = concat!(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        ".eyJzdWIiOiI0MiIsImlhdCI6MTc5NTE3NjAwMCwiZXhwIjoxNzk1MTc2MDYwfQ",
        ".ZFZlX7qDtqKpkO6d_tYvV3DU5lPzcMwIdjtHA1TMkq0",
    );

    #[test]
    fn users_are_numbered_from_the_first() {
        let numbers = |first, count| {
            users(UserId::new(first).unwrap(), count).map(|users| users.map(UserId::get).collect::<Vec<_>>())
        };
        assert_eq!(numbers(7, 3).unwrap(), [7, 8, 9]);
        assert_eq!(numbers(i64::MAX as u64, 1).unwrap(), [i64::MAX]);
        assert!(matches!(numbers(i64::MAX as u64, 2), Err(CommandError::Usage(_))));
    }
}
