//! Recording a batch of orders: the transaction that every "201 Created" waits for.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, Error, params};

use crate::ledger::{AppendDenial, AppendOutcome, Entry};
use crate::order::{Order, SaleNo, SkuNo, State, Switch};

/// Decides and records every entry. Runs inside one transaction: an error leaves nothing behind.
///
/// The order of the checks is the contract's: an order that exists is recognised before the end of the sale, the
/// stock or the limit is looked at.
pub(super) fn append(connection: &Connection, batch: &[Entry]) -> Result<Vec<AppendOutcome>, Error> {
    let insert = connection.prepare_cached(INSERT_ORDER)?;
    let mut books = BatchState {
        connection,
        insert,
        segments: HashMap::default(),
        epochs: HashMap::default(),
        ended: HashMap::default(),
    };
    let answers = batch.iter().map(|entry| books.append_one(entry)).collect::<Result<_, _>>()?;
    books.write_back()?;
    Ok(answers)
}

/// The statement that every order runs, and the rows that the batch touches more than once, read once and written once.
struct BatchState<'a> {
    connection: &'a Connection,
    insert: CachedStatement<'a>,
    segments: HashMap<(SkuNo, u16), Segment, foldhash::fast::RandomState>,
    epochs: HashMap<(SaleNo, u16), i64, foldhash::fast::RandomState>,
    ended: HashMap<SaleNo, bool, foldhash::fast::RandomState>,
}

#[derive(Clone, Copy, Default)]
struct Segment {
    available: i64,
    held_added: i64,
    sold_added: i64,
}

const SELECT_SEGMENT: &str = "SELECT total - held - sold FROM segments WHERE sku_no = ?1 AND shard = ?2";
const UPDATE_SEGMENT: &str = "UPDATE segments SET held = held + ?3, sold = sold + ?4 WHERE sku_no = ?1 AND shard = ?2";
const SELECT_SWITCH: &str = "SELECT switch FROM sales WHERE no = ?1";
const INSERT_ORDER: &str = "INSERT INTO orders (user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?9) \
     ON CONFLICT (user_id, order_no) DO NOTHING";
const SELECT_BUYER: &str = "SELECT units FROM buyers WHERE sku_no = ?1 AND user_id = ?2";
const UPSERT_BUYER: &str = "INSERT INTO buyers (sku_no, user_id, units) VALUES (?1, ?2, ?3) \
     ON CONFLICT (sku_no, user_id) DO UPDATE SET units = excluded.units";

impl BatchState<'_> {
    fn append_one(&mut self, entry: &Entry) -> Result<AppendOutcome, Error> {
        match self.why_not(entry)? {
            // The insert itself tells whether the order exists: one look-up instead of two.
            None if self.insert(entry)? => Ok(AppendOutcome::Created { epoch: self.epoch(entry)? }),
            None => self.existing(entry)?.map(AppendOutcome::Exists).ok_or(Error::QueryReturnedNoRows),
            Some(no) => Ok(self.existing(entry)?.map_or(no, AppendOutcome::Exists)),
        }
    }

    /// What keeps a new order from being recorded.
    fn why_not(&mut self, entry: &Entry) -> Result<Option<AppendOutcome>, Error> {
        if self.is_ended(entry)? {
            return Ok(Some(AppendOutcome::Denied(AppendDenial::Closed)));
        }
        if let Some(limit) = entry.sale.rules.user_limit
            && self.user_units(entry)? + i64::from(entry.reservation.quantity) > i64::from(limit)
        {
            return Ok(Some(AppendOutcome::Denied(AppendDenial::LimitReached)));
        }
        if self.segment(entry)?.available < i64::from(entry.reservation.quantity) {
            return Ok(Some(AppendOutcome::Denied(AppendDenial::SoldOut)));
        }
        Ok(None)
    }

    /// Inserts the order and counts its units; `false` if it exists.
    fn insert(&mut self, entry: &Entry) -> Result<bool, Error> {
        let reservation = &entry.reservation;
        let sku_no = sku_no(entry)?;
        let state = entry.sale.rules.first_state();
        let inserted = self.insert.execute(params![
            reservation.user.get(),
            reservation.order_no.as_bytes(),
            entry.sale.no.0,
            sku_no.0,
            reservation.quantity,
            state.number(),
            reservation.fingerprint.as_bytes(),
            entry.epoch,
            reservation.created_at
        ])?;
        if inserted == 0 {
            return Ok(false);
        }
        if entry.sale.rules.user_limit.is_some() {
            let units = self.user_units(entry)? + i64::from(reservation.quantity);
            self.connection.prepare_cached(UPSERT_BUYER)?.execute(params![sku_no.0, reservation.user.get(), units])?;
        }
        let segment = self.segment(entry)?;
        let quantity = i64::from(reservation.quantity);
        segment.available -= quantity;
        match state {
            State::PendingPayment => segment.held_added += quantity,
            _ => segment.sold_added += quantity,
        }
        Ok(true)
    }

    fn existing(&self, entry: &Entry) -> Result<Option<Order>, Error> {
        super::read::find(self.connection, entry.reservation.user, entry.reservation.order_no)
    }

    fn segment(&mut self, entry: &Entry) -> Result<&mut Segment, Error> {
        use std::collections::hash_map::Entry as At;
        let sku_no = sku_no(entry)?;
        match self.segments.entry((sku_no, entry.shard)) {
            At::Occupied(found) => Ok(found.into_mut()),
            At::Vacant(place) => {
                let mut select = self.connection.prepare_cached(SELECT_SEGMENT)?;
                let available = select.query_row(params![sku_no.0, entry.shard], |row| row.get(0))?;
                Ok(place.insert(Segment { available, ..Segment::default() }))
            }
        }
    }

    fn epoch(&mut self, entry: &Entry) -> Result<i64, Error> {
        let shard = (entry.sale.no, entry.shard);
        if let Some(epoch) = self.epochs.get(&shard) {
            return Ok(*epoch);
        }
        let epoch = super::epochs::newest(self.connection, entry.sale.no, entry.shard)?;
        self.epochs.insert(shard, epoch);
        Ok(epoch)
    }

    fn user_units(&self, entry: &Entry) -> Result<i64, Error> {
        let mut select = self.connection.prepare_cached(SELECT_BUYER)?;
        let mut rows = select.query(params![sku_no(entry)?.0, entry.reservation.user.get()])?;
        rows.next()?.map_or(Ok(0), |row| row.get(0))
    }

    fn is_ended(&mut self, entry: &Entry) -> Result<bool, Error> {
        if let Some(ended) = self.ended.get(&entry.sale.no) {
            return Ok(*ended);
        }
        let switch: String =
            self.connection.prepare_cached(SELECT_SWITCH)?.query_row([entry.sale.no.0], |row| row.get(0))?;
        let ended = switch == Switch::Ended.as_str();
        self.ended.insert(entry.sale.no, ended);
        Ok(ended)
    }

    fn write_back(self) -> Result<(), Error> {
        let mut update = self.connection.prepare_cached(UPDATE_SEGMENT)?;
        for ((sku_no, shard), segment) in &self.segments {
            if segment.held_added != 0 || segment.sold_added != 0 {
                update.execute(params![sku_no.0, shard, segment.held_added, segment.sold_added])?;
            }
        }
        Ok(())
    }
}

fn sku_no(entry: &Entry) -> Result<SkuNo, Error> {
    entry.sale.skus.get(usize::from(entry.reservation.sku)).map(|sku| sku.no).ok_or(Error::QueryReturnedNoRows)
}
