//! What buyers and operators say, in few words.

use std::sync::{Arc, Barrier};

use serde_json::{Value, json};

use crate::client::{Answer, Client, Request, get, post};
use crate::contract::{code, created};
use crate::server::Server;
use crate::wait::eventually;

/// An open sale of one sku, `sku-1`, at 19.99 CNY.
pub fn sale(sale_id: &str, stock: u64) -> Value {
    let sku = json!({"sku_id": "sku-1", "stock": stock, "unit_price": 1999, "currency": "CNY"});
    json!({"sale_id": sale_id, "skus": [sku]})
}

/// `value` with some members set.
pub fn with(mut value: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("an object") };
    value.as_object_mut().unwrap().extend(members);
    value
}

/// `value` without a member.
pub fn without(mut value: Value, member: &str) -> Value {
    value.as_object_mut().unwrap().remove(member).expect(member);
    value
}

/// The body of an order of `sku-1`.
pub fn wish(sale_id: &str, quantity: u64) -> Value {
    json!({"sale_id": sale_id, "sku_id": "sku-1", "quantity": quantity})
}

/// An order of one `sku-1`.
pub fn one(sale_id: &str, key: &str) -> Request {
    place(key, &wish(sale_id, 1))
}

pub fn place(key: &str, body: &Value) -> Request {
    post("/v1/orders").key(key).json(body)
}

/// Units of one sku.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub total: u64,
    pub available: u64,
    pub held: u64,
    pub sold: u64,
}

impl Level {
    /// Reads the four members and checks that they add up.
    fn read(value: &Value) -> Self {
        let units = |member: &str| value[member].as_u64().unwrap_or_else(|| panic!("no {member}: {value}"));
        let level =
            Level { total: units("total"), available: units("available"), held: units("held"), sold: units("sold") };
        assert_eq!(level.total, level.available + level.held + level.sold, "{value}");
        level
    }
}

impl Server {
    /// Makes a sale.
    #[track_caller]
    pub fn open(&self, sale: &Value) -> Value {
        let answer = self.operator().send(post("/admin/v1/sales").json(sale));
        assert_eq!(answer.status, 201, "{answer}");
        answer.json()
    }

    /// `pause`, `resume` or `end`.
    #[track_caller]
    pub fn switch(&self, sale_id: &str, to: &str) -> Value {
        let answer = self.operator().send(post(format!("/admin/v1/sales/{sale_id}/{to}")));
        assert_eq!(answer.status, 200, "{answer}");
        answer.json()
    }

    /// Changes the stock of `sku-1`.
    pub fn restock(&self, sale_id: &str, change_id: &str, quantity: i64) -> Answer {
        let body = json!({"change_id": change_id, "sku_id": "sku-1", "quantity": quantity});
        self.operator().send(post(format!("/admin/v1/sales/{sale_id}/restock")).json(&body))
    }

    /// The stock of a sku, after checking that its shards add up to it.
    pub fn level(&self, sale_id: &str, sku_id: &str) -> Level {
        let answer = self.operator().send(get(format!("/admin/v1/sales/{sale_id}")));
        assert_eq!(answer.status, 200, "{answer}");
        level_in(&answer.json(), sku_id)
    }

    /// Fails unless the server's own audit finds the books in balance.
    pub fn assert_balanced(&self) {
        let answer = self.operator().send(get("/admin/v1/verify"));
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(answer.json()["ok"], true, "{answer}");
    }

    /// One order of a new user, to see that the server still sells.
    pub fn assert_sells(&self, sale_id: &str, user: u64) {
        created(&self.buyer(user).send(one(sale_id, "still-selling")));
    }
}

/// The stock of a sku in the answer of an admin call.
pub fn level_in(sale: &Value, sku_id: &str) -> Level {
    let skus = sale["skus"].as_array().unwrap();
    let sku = skus.iter().find(|sku| sku["sku_id"] == sku_id).unwrap_or_else(|| panic!("no {sku_id}: {sale}"));
    let mut sum = Level::default();
    for (n, shard) in sku["shards"].as_array().unwrap().iter().enumerate() {
        assert_eq!(shard["shard"], n, "shards are numbered from 0: {sku}");
        let part = Level::read(shard);
        sum.total += part.total;
        sum.available += part.available;
        sum.held += part.held;
        sum.sold += part.sold;
    }
    let level = Level::read(sku);
    assert_eq!(level, sum, "the shards add up: {sku}");
    level
}

/// Sends all requests at the same moment, each over a connection of its own; answers in the same order.
pub fn crowd(requests: Vec<(Client, Request)>) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(requests.len()));
    let threads: Vec<_> = requests
        .into_iter()
        .map(|(mut client, request)| {
            let start = Arc::clone(&start);
            let thread = std::thread::Builder::new().stack_size(256 * 1024);
            let send = move || {
                // The connection is made before the start, or the first would be done before the last has begun.
                assert_eq!(client.send(get("/v1/capabilities")).status, 200);
                start.wait();
                client.send(request)
            };
            thread.spawn(send).unwrap()
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Repeats a request, as a client should, until the answer is final; that answer.
pub fn persist(client: &mut Client, request: &Request) -> Answer {
    eventually(|| {
        let answer = client.try_send(request.clone()).ok()?;
        match code(&answer).as_deref() {
            Some("idempotency_in_progress" | "overloaded" | "gate_unavailable") => None,
            Some("ledger_unavailable" | "unknown_outcome" | "rate_limited") => None,
            _ => Some(answer),
        }
    })
}

/// The lines of a server's log that hold all of these texts, once there are `count` of them: the log is read a little later
/// than answers are.
pub fn logged(server: &Server, texts: &[&str], count: usize) -> Vec<String> {
    let lines = eventually(|| {
        let log = server.log();
        let fits = log.lines().filter(|line| texts.iter().all(|text| line.contains(text)));
        Some(fits.map(str::to_owned).collect::<Vec<_>>()).filter(|lines| lines.len() >= count)
    });
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}
