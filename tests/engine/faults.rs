//! A ledger that fails as told: before the effect, after it, or without it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use futures_util::future::{BoxFuture, FutureExt};
use rushgate::clock::UnixMs;
use rushgate::ledger::{
    Appended, Check, Entry, Epoch, Error, Ledger, PageOf, Restock, Restocked, SaleCreated, Transfer,
};
use rushgate::order::{Name, NewSale, Order, OrderNo, Sale, SaleNo, Salt, SkuLevel, SkuNo, Switch, UserId};

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing happens, and the caller is told so.
    NotDone,
    /// It happens, and the answer is lost.
    DoneUnknown,
    /// It does not happen, and the answer is lost.
    NotDoneUnknown,
}

/// Wraps a ledger; the next writes meet the faults of the plan, in order.
pub(crate) struct FaultyLedger {
    inner: Arc<dyn Ledger>,
    plan: Mutex<VecDeque<Fault>>,
}

impl FaultyLedger {
    pub(crate) fn new(inner: Arc<dyn Ledger>) -> Arc<FaultyLedger> {
        Arc::new(FaultyLedger { inner, plan: Mutex::default() })
    }

    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().unwrap().extend(faults);
    }

    fn meet<T: Send + 'static>(&self, work: BoxFuture<'static, Result<T, Error>>) -> BoxFuture<'_, Result<T, Error>> {
        let fault = self.plan.lock().unwrap().pop_front();
        async move {
            match fault {
                None => work.await,
                Some(Fault::NotDone) => Err(Error::Unavailable("planned".to_owned())),
                Some(Fault::NotDoneUnknown) => Err(Error::Unknown("planned, not done".to_owned())),
                Some(Fault::DoneUnknown) => {
                    work.await?;
                    Err(Error::Unknown("planned, done".to_owned()))
                }
            }
        }
        .boxed()
    }
}

impl Ledger for FaultyLedger {
    fn append(&self, batch: Vec<Entry>) -> BoxFuture<'_, Result<Vec<Appended>, Error>> {
        let inner = self.inner.clone();
        self.meet(async move { inner.append(batch).await }.boxed())
    }

    fn transfer(&self, transfer: Transfer) -> BoxFuture<'_, Result<bool, Error>> {
        let inner = self.inner.clone();
        self.meet(async move { inner.transfer(transfer).await }.boxed())
    }

    fn restock(&self, restock: Restock) -> BoxFuture<'_, Result<Restocked, Error>> {
        let inner = self.inner.clone();
        self.meet(async move { inner.restock(restock).await }.boxed())
    }

    fn find(&self, user: Option<UserId>, order_no: OrderNo) -> BoxFuture<'_, Result<Option<Order>, Error>> {
        self.inner.find(user, order_no)
    }

    fn list(&self, page: PageOf) -> BoxFuture<'_, Result<Vec<Order>, Error>> {
        self.inner.list(page)
    }

    fn sales(&self) -> BoxFuture<'_, Result<Vec<Sale>, Error>> {
        self.inner.sales()
    }

    fn create_sale(&self, new: NewSale, salt: Salt, now_ms: UnixMs) -> BoxFuture<'_, Result<SaleCreated, Error>> {
        self.inner.create_sale(new, salt, now_ms)
    }

    fn switch(&self, sale: SaleNo, switch: Switch) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.switch(sale, switch)
    }

    fn restocked(&self, sale: SaleNo, change_id: Name) -> BoxFuture<'_, Result<Option<(SkuNo, i64)>, Error>> {
        self.inner.restocked(sale, change_id)
    }

    fn begin_epochs(&self, sale: SaleNo, shards: Range<u16>) -> BoxFuture<'_, Result<Vec<Epoch>, Error>> {
        self.inner.begin_epochs(sale, shards)
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
