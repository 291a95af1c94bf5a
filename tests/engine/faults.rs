//! A ledger that fails as told: before the effect, after it, or without it.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, FutureExt};
use rushgate::clock::UnixMs;
use rushgate::ledger::{
    AppendOutcome, Change, Changed, Check, CreateOutcome, Entry, EpochRequest, Error, ExpiredOrder, Ledger,
    NewestEpoch, PageRequest, Restock, RestockOutcome, SwitchOutcome, Transfer,
};
use rushgate::order::{History, Name, NewSale, Order, OrderNo, Sale, SaleNo, Salt, SkuLevel, SkuNo, Switch, UserId};

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens, and the caller is told so.
    NotDone,
    /// It happens, and the answer is lost.
    DoneUnknown,
    /// It does not happen, and the answer is lost.
    NotDoneUnknown,
    /// It never comes back, like a disk that hangs. Not among the random ones: nothing ends it.
    Never,
    /// It happens half a second later. Not among the random ones either: it takes time.
    Late,
}

impl Fault {
    pub(crate) const ALL: [Fault; 3] = [Fault::NotDone, Fault::DoneUnknown, Fault::NotDoneUnknown];

    /// The word of the stories.
    pub(crate) fn parse(text: &str) -> Option<Fault> {
        match text {
            "not_done" => Some(Fault::NotDone),
            "done_unknown" => Some(Fault::DoneUnknown),
            "not_done_unknown" => Some(Fault::NotDoneUnknown),
            _ => None,
        }
    }
}

/// The faults that the next writes of one kind meet, in order; after those, `always`.
#[derive(Default)]
struct Plan {
    next: VecDeque<Fault>,
    always: Option<Fault>,
}

/// Wraps a ledger. Appends have a plan of their own, and so have changes of orders; transfers and restocks share one. It
/// also sees to it that the engine
/// keeps its side of the contract: no order stands twice in a batch.
pub(crate) struct FaultyLedger {
    inner: Arc<dyn Ledger>,
    appends: Mutex<Plan>,
    moves: Mutex<Plan>,
    changes: Mutex<Plan>,
    asked: AtomicUsize,
    /// Whether there are always more keys to forget.
    pub(crate) endless_keys: std::sync::atomic::AtomicBool,
}

impl FaultyLedger {
    pub(crate) fn new(inner: Arc<dyn Ledger>) -> Arc<FaultyLedger> {
        Arc::new(FaultyLedger {
            inner,
            appends: Mutex::default(),
            moves: Mutex::default(),
            changes: Mutex::default(),
            asked: AtomicUsize::new(0),
            endless_keys: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// Batches of orders, and looks for one order, so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The next appends fail like this.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.appends.lock().unwrap().next.extend(faults);
    }

    /// The next transfers and restocks fail like this.
    pub(crate) fn plan_moves(&self, faults: impl IntoIterator<Item = Fault>) {
        self.moves.lock().unwrap().next.extend(faults);
    }

    /// The next changes of orders fail like this.
    pub(crate) fn plan_changes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.changes.lock().unwrap().next.extend(faults);
    }

    /// Every append fails like this until [`FaultyLedger::mend`].
    pub(crate) fn break_down(&self, fault: Fault) {
        self.appends.lock().unwrap().always = Some(fault);
    }

    /// Forgets the plans; answers how many faults of appends and moves nothing has met.
    pub(crate) fn mend(&self) -> (usize, usize) {
        let forget = |plan: &Mutex<Plan>| std::mem::take(&mut *plan.lock().unwrap()).next.len();
        forget(&self.changes);
        (forget(&self.appends), forget(&self.moves))
    }
}

/// Runs `work` as the plan has it.
fn meet<T: Send + 'static>(
    plan: &Mutex<Plan>,
    work: BoxFuture<'static, Result<T, Error>>,
) -> BoxFuture<'static, Result<T, Error>> {
    let fault = {
        let mut plan = plan.lock().unwrap();
        plan.next.pop_front().or(plan.always)
    };
    async move {
        match fault {
            None => work.await,
            Some(Fault::NotDone) => Err(Error::Unavailable("planned".to_owned())),
            Some(Fault::NotDoneUnknown) => Err(Error::Unknown("planned, not done".to_owned())),
            Some(Fault::Never) => std::future::pending().await,
            Some(Fault::Late) => {
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                work.await
            }
            Some(Fault::DoneUnknown) => {
                work.await?;
                Err(Error::Unknown("planned, done".to_owned()))
            }
        }
    }
    .boxed()
}

impl Ledger for FaultyLedger {
    fn append(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<Vec<AppendOutcome>, Error>> {
        let numbers: HashSet<_> = batch.iter().map(|entry| entry.reservation.order_no).collect();
        assert_eq!(numbers.len(), batch.len(), "an order stands twice in a batch");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let inner = self.inner.clone();
        meet(&self.appends, async move { inner.append(batch).await }.boxed())
    }

    fn transfer(&self, transfer: Transfer) -> BoxFuture<'_, Result<bool, Error>> {
        let inner = self.inner.clone();
        meet(&self.moves, async move { inner.transfer(transfer).await }.boxed())
    }

    fn restock(&self, restock: Restock) -> BoxFuture<'_, Result<RestockOutcome, Error>> {
        let inner = self.inner.clone();
        meet(&self.moves, async move { inner.restock(restock).await }.boxed())
    }

    fn change(&self, changes: Vec<Change>, now_ms: UnixMs) -> BoxFuture<'_, Result<Vec<Changed>, Error>> {
        let inner = self.inner.clone();
        meet(&self.changes, async move { inner.change(changes, now_ms).await }.boxed())
    }

    fn expire(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<Vec<ExpiredOrder>, Error>> {
        let inner = self.inner.clone();
        async move { inner.expire(now_ms, max).await }.boxed()
    }

    fn history(&self, user: UserId, order_no: OrderNo) -> BoxFuture<'_, Result<History, Error>> {
        self.inner.history(user, order_no)
    }

    fn sweep_keys(&self, now_ms: UnixMs, max: u32) -> BoxFuture<'_, Result<u64, Error>> {
        if self.endless_keys.load(Ordering::SeqCst) {
            // As many as a batch takes, in the time that a commit takes.
            return async move {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                Ok(u64::from(max))
            }
            .boxed();
        }
        self.inner.sweep_keys(now_ms, max)
    }

    fn find(&self, user: Option<UserId>, order_no: OrderNo) -> BoxFuture<'_, Result<Option<Order>, Error>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.find(user, order_no)
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Vec<Order>, Error>> {
        self.inner.list(page)
    }

    fn id(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.inner.id()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn appends_at_once(&self) -> usize {
        self.inner.appends_at_once()
    }

    fn sales(&self, after: i64) -> BoxFuture<'_, Result<Vec<Sale>, Error>> {
        self.inner.sales(after)
    }

    fn create_sale(&self, new: NewSale, salt: Salt, now_ms: UnixMs) -> BoxFuture<'_, Result<CreateOutcome, Error>> {
        self.inner.create_sale(new, salt, now_ms)
    }

    fn switch(&self, sale: SaleNo, switch: Switch) -> BoxFuture<'_, Result<SwitchOutcome, Error>> {
        self.inner.switch(sale, switch)
    }

    fn mark_bypassed(&self, sale: SaleNo) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.mark_bypassed(sale)
    }

    fn restocked(&self, sale: SaleNo, change_id: Name) -> BoxFuture<'_, Result<Option<(SkuNo, i64)>, Error>> {
        self.inner.restocked(sale, change_id)
    }

    fn begin_epochs(&self, sale: SaleNo, shards: Vec<EpochRequest>) -> BoxFuture<'_, Result<Vec<NewestEpoch>, Error>> {
        self.inner.begin_epochs(sale, shards)
    }

    /// Fares like an append while the ledger is broken down; the faults of the plan are for orders.
    fn probe(&self) -> BoxFuture<'_, Result<(), Error>> {
        let always = Plan { always: self.appends.lock().unwrap().always, ..Plan::default() };
        let inner = self.inner.clone();
        meet(&Mutex::new(always), async move { inner.probe().await }.boxed())
    }

    fn stock(&self, sale: SaleNo) -> BoxFuture<'_, Result<Vec<Vec<SkuLevel>>, Error>> {
        self.inner.stock(sale)
    }

    fn audit(&self, sale: Option<SaleNo>) -> BoxFuture<'_, Result<Vec<Check>, Error>> {
        self.inner.audit(sale)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
