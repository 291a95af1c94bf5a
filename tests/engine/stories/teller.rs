//! Carries out the lines of a story.

use std::collections::BTreeMap;
use std::time::Duration;

use rushgate::command::{PlaceOrder, RestockSale, TakeStep};
use rushgate::order::{
    Boundary, Money, NewSale, OnDuplicate, OrderNo, Outcome, PaymentEvent, Provider, ProviderId, Receipt, Refusal,
    Report, SaleView, Step, Switch, Zone,
};

use crate::faults::Fault;
use crate::world::{NOON, World, asked_by, context, key, name, name_ref, new_sale, rules, user, word};

pub(super) struct Teller {
    world: World,
    /// The orders that have a name, each with the body of its first answer.
    orders: BTreeMap<String, (OrderNo, Option<String>)>,
    /// The purchase tokens that have a name.
    tokens: BTreeMap<String, String>,
}

/// What came of an operation.
enum Answer {
    Text(String),
    /// A word, perhaps with an order and the body that came with it.
    Order(&'static str, Option<OrderNo>, Option<String>),
}

/// An operation's words: those in their place, and those of the form `name=value`.
struct Words<'a> {
    placed: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn of(operation: &'a str) -> Words<'a> {
        let (named, placed): (Vec<_>, Vec<_>) = operation.split_whitespace().partition(|text| text.contains('='));
        Words { placed, named: named.into_iter().filter_map(|text| text.split_once('=')).collect() }
    }

    fn named(&self, name: &str) -> Option<&'a str> {
        self.named.iter().find(|(named, _)| *named == name).map(|(_, value)| *value)
    }

    fn user(&self) -> Result<u64, String> {
        number(self.named("user").ok_or("user=… is missing")?)
    }
}

impl Teller {
    pub(super) async fn new() -> Teller {
        Teller { world: World::new().await, orders: BTreeMap::new(), tokens: BTreeMap::new() }
    }

    /// Whether the operation's answer is the expected one; if not, what it was.
    pub(super) async fn check(&mut self, operation: &str, expected: &str) -> Result<(), String> {
        let words = Words::of(operation);
        match self.run(&words).await.map_err(|why| format!("cannot read the line: {why}"))? {
            Answer::Text(got) if got == expected => Ok(()),
            Answer::Text(got) => Err(got),
            Answer::Order(got, number, body) => self.check_order(expected, got, number, body),
        }
    }

    /// Binds the order's name, or compares with what it is bound to.
    fn check_order(
        &mut self,
        expected: &str,
        got: &'static str,
        number: Option<OrderNo>,
        body: Option<String>,
    ) -> Result<(), String> {
        let (words, name) = expected.split_once(' ').map_or((expected, None), |(words, name)| (words, Some(name)));
        let known = number.and_then(|number| self.orders.iter().find(|(_, bound)| bound.0 == number));
        let is_known = known.is_some();
        let got_text = match (number, known) {
            (None, _) => got.to_owned(),
            (Some(_), Some((name, _))) => format!("{got} {name}"),
            (Some(_), None) => format!("{got} (a new order)"),
        };
        if !words.split('|').any(|word| word == got) || name.is_some() != number.is_some() {
            return Err(got_text);
        }
        let (Some(name), Some(number)) = (name, number) else { return Ok(()) };
        match (self.orders.get_mut(name), is_known) {
            (None, false) => {
                self.orders.insert(name.to_owned(), (number, body));
                Ok(())
            }
            (Some((bound, first)), true) if *bound == number => match (first, body) {
                (Some(first), Some(body)) if *first != body => {
                    Err(format!("{got_text} with another body\n            first  {first}\n            now    {body}"))
                }
                (first, body) => {
                    *first = first.take().or(body);
                    Ok(())
                }
            },
            _ => Err(got_text),
        }
    }

    /// Settles what is left and audits everything.
    pub(super) async fn end(&mut self, file: &str) {
        let unmet = self.world.ledger.mend();
        assert_eq!(unmet, (0, 0), "{file}: faults that nothing has met (appends, moves)");
        self.world.quiet().await;
        assert_eq!(self.world.findings(None).await, [], "{file}: at its end");
    }

    async fn run(&mut self, words: &Words<'_>) -> Result<Answer, String> {
        match words.placed.as_slice() {
            ["sale", id, ..] => Ok(refusable(self.world.engine.create_sale(sale(id, words)?).await, |(is_new, _)| {
                if is_new { "ok".to_owned() } else { "same".to_owned() }
            })),
            ["place", key_text, sale_id, item] => self.place(words, key_text, sale_id, item).await,
            ["token", name, sale_id] => {
                let given = self.world.engine.purchase_token(user(words.user()?), sale_id);
                let tokens = &mut self.tokens;
                Ok(refusable(given, |given| {
                    tokens.insert((*name).to_owned(), given.token);
                    format!("until {}", given.expires_at - NOON)
                }))
            }
            ["tick", by] => {
                self.world.clock.advance(ms(by)?);
                // The engine does so by itself, within half a second of the real clock.
                self.world.engine.expire().await;
                Ok(ok())
            }
            ["changes", "fail", faults @ ..] => {
                self.world.ledger.plan_changes(parse_all(faults)?);
                Ok(ok())
            }
            [word @ ("cancel" | "ship" | "refund"), key_text, order, rest @ ..] => {
                let step = match *word {
                    "cancel" => Step::Cancel,
                    "ship" => Step::Ship,
                    _ => Step::Refund,
                };
                let (order_no, restock) = (self.number(order)?, *rest == ["restock"]);
                let whose = words.named("user").map(number_of_user).transpose()?;
                let ask = TakeStep { context: asked_by(whose), order_no, step, restock, key: key(key_text) };
                Ok(refusable(self.world.engine.take_step(ask).await, |taken| {
                    let state = taken.view.order.state.as_str();
                    if taken.is_replay { format!("{state} again") } else { state.to_owned() }
                }))
            }
            ["hears", what, order] => {
                let order_no = self.number(order)?;
                let report = self.report(words, what, order_no).await?;
                Ok(refusable(self.world.engine.record_report(report, &tracing::Span::none()).await, |heard| {
                    heard.note.as_str().to_owned()
                }))
            }
            ["pause", id] => Ok(self.switch(id, Switch::Paused).await),
            ["resume", id] => Ok(self.switch(id, Switch::Running).await),
            ["end", id] => Ok(self.switch(id, Switch::Ended).await),
            ["restock", id, sku, units] => {
                let change_id = name(words.named("change").ok_or("change=… is missing")?);
                let units = units.parse().map_err(|_| format!("{units} is no number of units"))?;
                let change = RestockSale { change_id, sku_id: name(sku), units };
                Ok(refusable(self.world.engine.restock_sale(id, change).await, |_| "ok".to_owned()))
            }
            ["levels", id, sku] => {
                let (available, held, sold) = self.world.levels(id, sku).await;
                Ok(Answer::Text(format!("available={available} held={held} sold={sold}")))
            }
            ["restart"] => {
                self.world.restart().await;
                Ok(ok())
            }
            ["sweep"] => {
                self.world.quiet().await;
                Ok(ok())
            }
            ["ledger", "fails", faults @ ..] => {
                self.world.ledger.plan(parse_all(faults)?);
                Ok(ok())
            }
            ["moves", "fail", faults @ ..] => {
                self.world.ledger.plan_moves(parse_all(faults)?);
                Ok(ok())
            }
            ["ledger", "down"] => {
                self.world.ledger.break_down(Fault::NotDone);
                Ok(ok())
            }
            ["ledger", "up"] => {
                self.world.ledger.mend();
                Ok(ok())
            }
            ["order", order] => {
                let (number, _) = self.orders.get(*order).ok_or("that name is not bound")?;
                let whose = words.named("user").map(number_of_user).transpose()?;
                let found = self.world.engine.order(whose, *number).await;
                Ok(refusable(found, |view| view.order.state.as_str().to_owned()))
            }
            ["find", key_text, sale_id] => {
                let found = self.world.engine.order_by_key(user(words.user()?), sale_id, &key(key_text)).await;
                Ok(match found {
                    Ok(view) => Answer::Order("found", Some(view.order.order_no), None),
                    Err(refusal) => Answer::Order(refusal.code.as_str(), None, None),
                })
            }
            ["list", sale_id] => {
                let found = self.world.engine.orders(user(words.user()?), sale_id, None, 100).await;
                Ok(refusable(found, |views| {
                    let name = |number| self.orders.iter().find(|(_, bound)| bound.0 == number).map(|(name, _)| name);
                    let names = views.iter().map(|view| name(view.order.order_no).map_or("?", String::as_str));
                    names.collect::<Vec<_>>().join(" ")
                }))
            }
            ["verify", sale_id] => {
                let findings = self.world.findings(Some(sale_id)).await;
                Ok(if findings.is_empty() { ok() } else { Answer::Text(format!("{findings:?}")) })
            }
            _ => Err("no such operation".to_owned()),
        }
    }

    fn number(&self, order: &str) -> Result<OrderNo, String> {
        self.orders.get(order).map(|(number, _)| *number).ok_or("that name is not bound".to_owned())
    }

    /// `hears paid O1 event=E1`: `paid`, `failed` or `refunded`, of the whole amount unless `amount=…` says otherwise.
    async fn report(&self, words: &Words<'_>, what: &str, order_no: OrderNo) -> Result<Report, String> {
        let reference = |text: &str| ProviderId::parse(text).map_err(|_| format!("{text} is no id"));
        let event = words.named("event").ok_or("event=… is missing")?;
        let view = self.world.engine.order(None, order_no).await.map_err(|refusal| refusal.code.as_str().to_owned())?;
        let whole = view.sku.unit_price * i64::from(view.order.quantity);
        let money = Money {
            order_no,
            payment_id: reference(words.named("id").unwrap_or(what))?,
            amount: words.named("amount").map_or(Ok(whole), |text| number(text).map(|n| n as i64))?,
            currency: view.sku.currency,
            is_total: false,
            is_ours: true,
        };
        let fact = match what {
            "paid" => PaymentEvent::Succeeded(money),
            "failed" => PaymentEvent::Failed(order_no),
            "refunded" => PaymentEvent::Refunded(money),
            _ => return Err(format!("{what} is no report: paid, failed, refunded")),
        };
        Ok(Report { provider: Provider::Standard, event_id: reference(event)?, event_type: reference(what)?, fact })
    }

    async fn place(&self, words: &Words<'_>, key_text: &str, sale_id: &str, item: &str) -> Result<Answer, String> {
        let (sku_id, quantity) = item.split_once('×').ok_or("an item is written A×1")?;
        let wait = words.named("wait").map_or(Ok(0), ms)?;
        let request = PlaceOrder {
            context: context(user(words.user()?), Duration::from_millis(wait.unsigned_abs())),
            sale_id: name_ref(sale_id),
            sku_id: name_ref(sku_id),
            quantity: quantity.parse().map_err(|_| format!("{quantity} is no quantity"))?,
            key: Ok((key_text != "-").then(|| key(key_text))),
            // A name that is bound to none is sent as it is: a forged one.
            token: words.named("token").map(|token| self.tokens.get(token).map_or(token, String::as_str)),
        };
        let answer = self.world.engine.place(&request).await;
        let (word, number) = word(&answer);
        let body = match &answer {
            Ok(Outcome::Created(receipt) | Outcome::Replayed(receipt)) => Some(body(receipt)),
            Err(_) => None,
        };
        Ok(Answer::Order(word, number, body))
    }

    async fn switch(&self, sale_id: &str, switch: Switch) -> Answer {
        let switched = self.world.engine.switch_sale(sale_id, switch).await;
        refusable(switched, |view: SaleView| view.state.as_str().to_owned())
    }
}

/// Everything that an answer shows.
fn body(receipt: &Receipt) -> String {
    let (sale, sku) = (&receipt.sale, receipt.sku().unwrap());
    let state = sale.rules.first_state().as_str();
    let (Receipt { order_no, user, quantity, created_at, .. }, price) = (receipt, sku.unit_price);
    let expires_at = receipt.expires_at();
    format!("{order_no} {} {} {user} {quantity} {price} {state} {created_at} {expires_at:?}", sale.id, sku.id)
}

fn ok() -> Answer {
    Answer::Text("ok".to_owned())
}

fn refusable<T>(answer: Result<T, Refusal>, tell: impl FnOnce(T) -> String) -> Answer {
    Answer::Text(answer.map_or_else(|refusal| refusal.code.as_str().to_owned(), tell))
}

/// `sale S1 A=2 B=5 shards=3 limit=2 pay=none opens=+10s …`: capitals are skus.
fn sale(id: &str, words: &Words<'_>) -> Result<NewSale, String> {
    let mut rules = rules(1);
    let mut skus = Vec::new();
    for (name, value) in &words.named {
        match *name {
            sku if sku.starts_with(char::is_uppercase) => {
                skus.push((sku, value.parse().map_err(|_| format!("{value} is no stock"))?));
            }
            "shards" => rules.shards = value.parse().map_err(|_| format!("{value} is no number of shards"))?,
            "limit" => rules.user_limit = Some(value.parse().map_err(|_| format!("{value} is no limit"))?),
            "pay" if *value == "none" => rules.payment_timeout_s = None,
            "pay" => rules.payment_timeout_s = Some(value.parse().map_err(|_| format!("{value} is no time-out"))?),
            "opens" => rules.starts_at = Some(NOON + ms(value)?),
            "ends" => rules.ends_at = Some(NOON + ms(value)?),
            "boundary" => rules.boundary = Boundary::parse(value).ok_or("no such boundary")?,
            "on_duplicate" => rules.on_duplicate = OnDuplicate::parse(value).ok_or("replay or conflict")?,
            "zone" => rules.time_zone = Zone::parse(value).map_err(|_| format!("{value} is no time zone"))?,
            "token" => rules.require_token = *value == "required",
            other => return Err(format!("a sale has no {other}")),
        }
    }
    Ok(new_sale(id, rules, &skus))
}

fn parse_all(faults: &[&str]) -> Result<Vec<Fault>, String> {
    faults.iter().map(|fault| Fault::parse(fault).ok_or(format!("no fault is called {fault}"))).collect()
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn number_of_user(text: &str) -> Result<rushgate::order::UserId, String> {
    number(text).map(user)
}

/// `10s`, `15m`, `1h`, with a sign or without.
fn ms(text: &str) -> Result<i64, String> {
    let unit = text.chars().last().unwrap_or(' ');
    let each = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        _ => return Err(format!("{text} is no time: 10s, 15m, 1h")),
    };
    let count: i64 = text.trim_end_matches(unit).parse().map_err(|_| format!("{text} is no time"))?;
    Ok(count * each)
}
