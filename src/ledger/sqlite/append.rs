//! Recording a batch of orders: the transaction that every "201 Created" waits for.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::{epochs, read};
use crate::ledger::core::admit::{BatchState, EntryDecision, RecordedUnits, ShardEpochs, no_sale, no_segment, sku_no};
use crate::ledger::core::columns::epoch_column;
use crate::ledger::{AppendOutcome, Entry, Error};
use crate::order::{Order, Switch};

/// Decides and records every entry, one after the other. Runs inside one transaction: an error leaves nothing behind.
pub(super) fn append(connection: &Connection, batch: &[Entry]) -> Result<Vec<AppendOutcome>, Error> {
    let insert = connection.prepare_cached(INSERT_ORDER)?;
    let (state, epochs, recorded) = (BatchState::default(), ShardEpochs::default(), RecordedUnits::default());
    let mut append = Append { connection, insert, state, epochs, recorded };
    let outcomes = batch.iter().map(|entry| append.append_one(entry)).collect::<Result<_, _>>()?;
    append.count_units()?;
    Ok(outcomes)
}

/// The statement that every order runs, and the rows that the batch touches more than once, read once and written once.
struct Append<'a> {
    connection: &'a Connection,
    insert: CachedStatement<'a>,
    state: BatchState,
    epochs: ShardEpochs,
    recorded: RecordedUnits,
}

const SELECT_SEGMENT: &str = "SELECT total - held - sold FROM segments WHERE sku_no = ?1 AND shard = ?2";
const UPDATE_SEGMENT: &str = "UPDATE segments SET held = held + ?3, sold = sold + ?4 WHERE sku_no = ?1 AND shard = ?2";
const SELECT_IS_ENDED: &str = "SELECT switch = ?2 FROM sales WHERE no = ?1";
const INSERT_ORDER: &str = "INSERT INTO orders (user_id, order_no, sale_no, sku_no, quantity, state, state_version, \
     fingerprint, epoch, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, ?9, ?9) \
     ON CONFLICT (user_id, order_no) DO NOTHING";
const SELECT_BUYER: &str = "SELECT units FROM buyers WHERE sku_no = ?1 AND user_id = ?2";
const ADD_TO_BUYER: &str = "INSERT INTO buyers (sku_no, user_id, units) VALUES (?1, ?2, ?3) \
     ON CONFLICT (sku_no, user_id) DO UPDATE SET units = units + excluded.units";

impl Append<'_> {
    /// Inserts first: the insert itself tells whether the order exists, one look-up instead of two.
    fn append_one(&mut self, entry: &Entry) -> Result<AppendOutcome, Error> {
        self.load(entry)?;
        let mut decision = self.state.admit(entry)?;
        if decision == EntryDecision::Admitted && self.insert(entry)? {
            self.recorded.add(entry)?;
            self.load_epoch(entry)?;
            return EntryDecision::Created.outcome(entry, &self.epochs);
        }
        if let Some(order) = self.existing(entry)? {
            if decision == EntryDecision::Admitted {
                self.state.give_back(entry)?;
            }
            decision = EntryDecision::Exists(order);
        }
        decision.outcome(entry, &self.epochs)
    }

    /// Reads the rows that decide the entry, unless an entry before it has.
    fn load(&mut self, entry: &Entry) -> Result<(), Error> {
        let (sku, shard, user) = (sku_no(entry)?, entry.shard, entry.reservation.user);
        if !self.state.is_ended.contains_key(&entry.sale.no) {
            let mut select = self.connection.prepare_cached(SELECT_IS_ENDED)?;
            let is_ended = select.query_row(params![entry.sale.no.0, Switch::Ended.as_str()], |row| row.get(0));
            let is_ended = is_ended.optional()?.ok_or_else(|| no_sale(entry))?;
            self.state.is_ended.insert(entry.sale.no, is_ended);
        }
        if !self.state.available.contains_key(&(sku, shard)) {
            let mut select = self.connection.prepare_cached(SELECT_SEGMENT)?;
            let available = select.query_row(params![sku.0, shard], |row| row.get(0)).optional()?;
            self.state.available.insert((sku, shard), available.ok_or_else(|| no_segment(sku, shard))?);
        }
        if entry.sale.rules.user_limit.is_some() && !self.state.user_units.contains_key(&(sku, user)) {
            let mut select = self.connection.prepare_cached(SELECT_BUYER)?;
            let units: Option<i64> = select.query_row(params![sku.0, user.get()], |row| row.get(0)).optional()?;
            self.state.user_units.insert((sku, user), units.unwrap_or(0));
        }
        Ok(())
    }

    /// Inserts the order; `false` if it exists.
    fn insert(&mut self, entry: &Entry) -> Result<bool, Error> {
        let reservation = &entry.reservation;
        let inserted = self.insert.execute(params![
            reservation.user.get(),
            reservation.order_no.as_bytes(),
            entry.sale.no.0,
            sku_no(entry)?.0,
            reservation.quantity,
            entry.sale.rules.first_state().number(),
            reservation.fingerprint.as_bytes(),
            epoch_column(entry.epoch),
            reservation.created_at
        ])?;
        Ok(inserted == 1)
    }

    fn existing(&self, entry: &Entry) -> Result<Option<Order>, Error> {
        read::find(self.connection, entry.reservation.user, entry.reservation.order_no)
    }

    /// Reads the newest epoch of the entry's shard, unless an entry before it has.
    fn load_epoch(&mut self, entry: &Entry) -> Result<(), Error> {
        let shard = (entry.sale.no, entry.shard);
        if !self.epochs.contains_key(&shard) {
            self.epochs.insert(shard, epochs::newest(self.connection, entry.sale.no, entry.shard)?);
        }
        Ok(())
    }

    fn count_units(self) -> Result<(), Error> {
        let mut update = self.connection.prepare_cached(UPDATE_SEGMENT)?;
        for ((sku, shard), units) in &self.recorded.segments {
            update.execute(params![sku.0, shard, units.held, units.sold])?;
        }
        let mut add = self.connection.prepare_cached(ADD_TO_BUYER)?;
        for ((sku, user), units) in &self.recorded.users {
            add.execute(params![sku.0, user.get(), units])?;
        }
        Ok(())
    }
}
