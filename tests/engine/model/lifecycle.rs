//! What happens to orders in a random program, and what whoever sees to it must hear.

use rushgate::command::TakeStep;
use rushgate::order::{Currency, Money, OrderNo, PaymentEvent, Provider, ProviderId, Report, Step};

use super::SKUS;
use super::oracle::{Lifecycle, Oracle, Told, Wish};
use crate::faults::Fault;
use crate::world::{PATIENCE, World, asked_by, key, user};

/// Lets something happen, perhaps with a failing ledger, and then once more, as whoever heard of trouble does.
pub(super) async fn live(
    world: &World,
    oracle: &mut Oracle,
    wish: &Wish,
    lifecycle: Lifecycle,
    step_key: u8,
    fault: Option<Fault>,
) -> Result<(), String> {
    let Some((number, quantity)) = oracle.number(wish) else { return Ok(()) };
    world.ledger.plan_changes(fault);
    let got = ask(world, wish.user, number, quantity, lifecycle, step_key).await;
    match fault {
        None => return said(&got, oracle.live(wish, lifecycle, step_key)),
        Some(Fault::NotDone) => said(&got, Told::Refused("ledger_unavailable"))?,
        Some(_) => said(&got, Told::Refused("unknown_outcome"))?,
    }
    let told = oracle.live(wish, lifecycle, step_key);
    let again = ask(world, wish.user, number, quantity, lifecycle, step_key).await;
    match (fault, told) {
        // It was done before the trouble: now it is a replay.
        (Some(Fault::DoneUnknown), Told::State(state)) => said(&again, Told::Again(state))?,
        _ => said(&again, told)?,
    }
    // Units that came back while nobody could be told are found when gate and ledger are compared.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for (sku, id) in (0..).zip(SKUS) {
        while world.levels("s", id).await != oracle.levels(sku) {
            if tokio::time::Instant::now() > deadline {
                return Err("units that came back are lost".to_owned());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// What the engine says, in the oracle's words.
async fn ask(
    world: &World,
    user_id: u64,
    order_no: OrderNo,
    quantity: u32,
    lifecycle: Lifecycle,
    step_key: u8,
) -> String {
    let (step, restock) = match lifecycle {
        Lifecycle::Cancel => (Step::Cancel, false),
        Lifecycle::Ship => (Step::Ship, false),
        Lifecycle::Refund { restock } => (Step::Refund, restock),
        Lifecycle::Paid | Lifecycle::Refunded => {
            return record_report(world, order_no, quantity, lifecycle, step_key).await;
        }
    };
    let whose = (step == Step::Cancel).then(|| user(user_id));
    let ask = TakeStep { context: asked_by(whose), order_no, step, restock, key: key(&format!("s{step_key}")) };
    match world.engine.take_step(ask).await {
        Ok(taken) if taken.is_replay => format!("{} again", taken.view.order.state.as_str()),
        Ok(taken) => taken.view.order.state.as_str().to_owned(),
        Err(refusal) => refusal.code.as_str().to_owned(),
    }
}

async fn record_report(world: &World, order_no: OrderNo, quantity: u32, lifecycle: Lifecycle, step_key: u8) -> String {
    let reference = |text: String| ProviderId::parse(&text).unwrap();
    let word = if lifecycle == Lifecycle::Paid { "paid" } else { "refunded" };
    let money = Money {
        order_no,
        payment_id: reference(word.to_owned()),
        amount: 1999 * i64::from(quantity),
        currency: Currency::parse("CNY").unwrap(),
        is_total: false,
        is_ours: true,
    };
    let report = Report {
        provider: Provider::Standard,
        event_id: reference(format!("{order_no} {word} {step_key}")),
        event_type: reference(word.to_owned()),
        fact: if lifecycle == Lifecycle::Paid { PaymentEvent::Succeeded(money) } else { PaymentEvent::Refunded(money) },
    };
    match world.engine.record_report(report, &tracing::Span::none()).await {
        Ok(_) => "heard".to_owned(),
        Err(refusal) => refusal.code.as_str().to_owned(),
    }
}

fn said(got: &str, told: Told) -> Result<(), String> {
    let expected = match told {
        Told::State(state) => state.as_str().to_owned(),
        Told::Again(state) => format!("{} again", state.as_str()),
        Told::Refused(code) => code.to_owned(),
        Told::Heard => "heard".to_owned(),
    };
    if got == expected { Ok(()) } else { Err(format!("{got}, not {expected}")) }
}
