//! A gate that fails as told: gone, deaf after the effect, emptied. Engines that share it are engines of one shop.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use rushgate::clock::UnixMs;
use rushgate::gate::{
    Error, Gate, Level, MemoryGate, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement, ShardEpoch, ShardId,
};
use rushgate::order::{Reservation, Sale, Switch};

use crate::faults::Fault;

/// Which calls a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Load,
    Reserve,
    Settle,
    /// Units taken out.
    Debit,
    /// Units put in.
    Credit,
    /// Units of cancelled and expired orders put on sale again.
    GiveBack,
    Level,
    Other,
}

#[derive(Default)]
pub(crate) struct FaultyGate {
    inner: Mutex<Arc<MemoryGate>>,
    plan: Mutex<VecDeque<(Call, Fault)>>,
    is_down: Mutex<bool>,
    slow: Mutex<HashMap<Call, Duration>>,
    calls: Mutex<HashMap<Call, usize>>,
}

impl FaultyGate {
    /// The gate forgets everything, as after FLUSHALL or a restart.
    pub(crate) fn flush(&self) {
        *self.inner.lock().unwrap() = Arc::default();
    }

    /// Every call is refused, until it is up again.
    pub(crate) fn set_down(&self, is_down: bool) {
        *self.is_down.lock().unwrap() = is_down;
    }

    /// The next call of this kind fails like this.
    pub(crate) fn plan(&self, call: Call, fault: Fault) {
        self.plan.lock().unwrap().push_back((call, fault));
    }

    /// Calls of this kind take so long.
    pub(crate) fn slow_down(&self, call: Call, delay: Duration) {
        self.slow.lock().unwrap().insert(call, delay);
    }

    /// Calls of this kind so far.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.calls.lock().unwrap().get(&call).copied().unwrap_or(0)
    }

    /// Faults that nothing has met.
    pub(crate) fn unmet(&self) -> usize {
        self.plan.lock().unwrap().len()
    }

    fn meet<'a, T: Send + 'a>(&'a self, call: Call, work: impl Work<'a, T>) -> BoxFuture<'a, Result<T, Error>> {
        if *self.is_down.lock().unwrap() {
            return std::future::ready(Err(Error::Unavailable("down".to_owned()))).boxed();
        }
        let fault = {
            let mut plan = self.plan.lock().unwrap();
            let at = plan.iter().position(|(planned, _)| *planned == call);
            at.and_then(|at| plan.remove(at)).map(|(_, fault)| fault)
        };
        *self.calls.lock().unwrap().entry(call).or_default() += 1;
        let delay = self.slow.lock().unwrap().get(&call).copied();
        let inner = self.inner.lock().unwrap().clone();
        async move {
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            match fault {
                None => work.run(inner).await,
                Some(Fault::NotDone) => Err(Error::Unavailable("planned".to_owned())),
                Some(Fault::NotDoneUnknown) => Err(Error::Unknown("planned, not done".to_owned())),
                Some(Fault::Never | Fault::Late) => std::future::pending().await,
                Some(Fault::DoneUnknown) => {
                    work.run(inner).await?;
                    Err(Error::Unknown("planned, done".to_owned()))
                }
            }
        }
        .boxed()
    }
}

/// Work on the gate of the moment.
trait Work<'a, T>: Send + 'a {
    fn run(self, gate: Arc<MemoryGate>) -> BoxFuture<'a, Result<T, Error>>;
}

impl<'a, T, F> Work<'a, T> for F
where
    F: FnOnce(Arc<MemoryGate>) -> BoxFuture<'a, Result<T, Error>> + Send + 'a,
{
    fn run(self, gate: Arc<MemoryGate>) -> BoxFuture<'a, Result<T, Error>> {
        self(gate)
    }
}

impl Gate for FaultyGate {
    fn load<'a>(
        &'a self,
        at: ShardEpoch,
        sale: &'a Sale,
        available: &'a [i64],
        remembers_all: bool,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.meet(Call::Load, move |gate: Arc<MemoryGate>| {
            async move { gate.load(at, sale, available, remembers_all).await }.boxed()
        })
    }

    fn reserve<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        asks: &'a [ReserveRequest],
    ) -> BoxFuture<'a, Result<Vec<ReserveOutcome>, Error>> {
        self.meet(Call::Reserve, move |gate: Arc<MemoryGate>| {
            async move { gate.reserve(at, now_ms, asks).await }.boxed()
        })
    }

    fn settle<'a>(&'a self, at: ShardEpoch, settlements: &'a [Settlement]) -> BoxFuture<'a, Result<(), Error>> {
        self.meet(Call::Settle, move |gate: Arc<MemoryGate>| async move { gate.settle(at, settlements).await }.boxed())
    }

    fn switch<'a>(&'a self, shard: ShardId, switch: Switch) -> BoxFuture<'a, Result<(), Error>> {
        self.meet(Call::Other, move |gate: Arc<MemoryGate>| async move { gate.switch(shard, switch).await }.boxed())
    }

    fn adjust<'a>(&'a self, at: ShardEpoch, sku: u16, units: i64) -> BoxFuture<'a, Result<i64, Error>> {
        let call = if units < 0 { Call::Debit } else { Call::Credit };
        self.meet(call, move |gate: Arc<MemoryGate>| async move { gate.adjust(at, sku, units).await }.boxed())
    }

    fn return_units<'a>(&'a self, at: ShardEpoch, returns: &'a [ReturnedUnits]) -> BoxFuture<'a, Result<(), Error>> {
        self.meet(Call::GiveBack, move |gate: Arc<MemoryGate>| {
            async move { gate.return_units(at, returns).await }.boxed()
        })
    }

    fn level<'a>(&'a self, shard: ShardId) -> BoxFuture<'a, Result<Level, Error>> {
        self.meet(Call::Level, move |gate: Arc<MemoryGate>| async move { gate.level(shard).await }.boxed())
    }

    fn overdue<'a>(
        &'a self,
        at: ShardEpoch,
        now_ms: UnixMs,
        max: usize,
    ) -> BoxFuture<'a, Result<Vec<Reservation>, Error>> {
        self.meet(Call::Other, move |gate: Arc<MemoryGate>| async move { gate.overdue(at, now_ms, max).await }.boxed())
    }
}
