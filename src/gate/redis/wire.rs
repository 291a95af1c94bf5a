//! The arguments and answers of the scripts, byte by byte. The headers in `lua/` say the same, and tests compare.

use std::ops::Range;

use redis::{Cmd, Value};

use super::key::key;
use super::link::Peer;
use super::script::Script;
use super::{Denial, Error, Level, ReserveMode, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement, ShardId};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{Epoch, Fingerprint, OrderNo, Reservation, Sale, SaleState, Switch, UserId};

// The bytes of a reservation as Redis stores it; the scripts name them alike. The first two fields are the record that
// stays when the order is recorded: half a fingerprint tells other content as surely as an operation needs, and 14 bytes
// are the most that fit a 16-byte allocation.
const FINGERPRINT: Range<usize> = 0..8;
const CREATED_AT: Range<usize> = 8..14;
const FINGERPRINT_REST: Range<usize> = 14..22;
const USER: Range<usize> = 22..30;
const SKU: Range<usize> = 30..32;
const QUANTITY: Range<usize> = 32..36;
const ATTEMPT_ID: Range<usize> = 36..44;
const UNTIL: Range<usize> = 44..50;
const RESERVATION_BYTES: usize = UNTIL.end;
const RECORD_BYTES: usize = CREATED_AT.end;

/// Longest time that may be left of a lease that an engine gave whose clock is ahead.
const LEASE_MS_MAX: i64 = limits::LEASE_MS + limits::CLOCKS_APART_MS;

/// The answer of `lua/reserve.lua` to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReserveCode {
    Reserved = 0,
    ReservedAgain = 1,
    Resumed = 2,
    Recorded = 3,
    InFlight = 4,
    OtherContent = 5,
    NotFound = 6,
    SegmentEmpty = 7,
    UserLimit = 8,
    NotOpen = 9,
}

impl ReserveCode {
    const ALL: [ReserveCode; 10] = [
        ReserveCode::Reserved,
        ReserveCode::ReservedAgain,
        ReserveCode::Resumed,
        ReserveCode::Recorded,
        ReserveCode::InFlight,
        ReserveCode::OtherContent,
        ReserveCode::NotFound,
        ReserveCode::SegmentEmpty,
        ReserveCode::UserLimit,
        ReserveCode::NotOpen,
    ];
}

/// Where a call goes: which shard of which ledger, in which Redis process.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) peer: &'a Peer,
    pub(super) ledger_id: u64,
    pub(super) shard: ShardId,
}

impl<'a> Target<'a> {
    /// The same place, for calls that are for one epoch.
    pub(super) fn in_epoch(self, epoch: Epoch) -> EpochTarget<'a> {
        EpochTarget { target: self, epoch }
    }

    /// A call with its keys.
    fn call(&self, script: Script, args: usize, bytes: usize) -> Cmd {
        let mut call = self.peer.command(script, args, bytes);
        for part in script.keys() {
            call.arg(key(self.ledger_id, self.shard, *part));
        }
        call
    }

    pub(super) fn switch(&self, switch: Switch) -> Cmd {
        let mut call = self.call(Script::Switch, 1, 1);
        call.arg(switch_number(switch));
        call
    }

    pub(super) fn level(&self) -> Cmd {
        let mut call = self.call(Script::Level, 1, 40);
        call.arg(&self.peer.lineage);
        call
    }
}

/// Where a call goes that is for one epoch of its shard.
#[derive(Clone, Copy)]
pub(super) struct EpochTarget<'a> {
    target: Target<'a>,
    epoch: Epoch,
}

impl EpochTarget<'_> {
    /// A call that is for one epoch of one lineage.
    fn call(&self, script: Script, args: usize, bytes: usize) -> Cmd {
        let mut call = self.target.call(script, args, bytes);
        call.arg(self.epoch.get()).arg(&self.target.peer.lineage);
        call
    }

    pub(super) fn load(&self, sale: &Sale, available: &[i64], remembers_all: bool) -> Cmd {
        let mut call = self.call(Script::Load, available.len(), 16 * available.len());
        call.arg(switch_number(sale.switch));
        // `None` is an empty text: an absent argument would move the others.
        call.arg(optional(sale.rules.starts_at)).arg(optional(sale.rules.ends_at));
        call.arg(optional(sale.rules.user_limit)).arg(u8::from(remembers_all)).arg(available.len());
        for units in available {
            call.arg(*units);
        }
        call
    }

    pub(super) fn reserve(&self, now_ms: UnixMs, requests: &[&ReserveRequest]) -> Cmd {
        let mut call = self.call(Script::Reserve, 2 * requests.len(), 96 * requests.len());
        let skus = units_by_sku(requests);
        call.arg(now_ms).arg(LEASE_MS_MAX).arg(modes(requests)).arg(requests.len()).arg(skus.len());
        for (sku, units) in &skus {
            call.arg(*sku).arg(*units);
        }
        let until_ms = now_ms.saturating_add(limits::LEASE_MS);
        for request in requests {
            call.arg(request.reservation.order_no.as_bytes().as_slice()).arg(pack(request, until_ms).as_slice());
        }
        call
    }

    pub(super) fn settle(&self, settlements: &[Settlement]) -> Cmd {
        let is_commit = |settlement: &&Settlement| matches!(settlement, Settlement::Commit { .. });
        let commits = settlements.iter().filter(is_commit).count();
        let mut call = self.call(Script::Settle, 3 * settlements.len(), 32 * settlements.len());
        call.arg(commits).arg(settlements.len() - commits);
        for commit in settlements.iter().filter(is_commit) {
            call.arg(commit.order_no().as_bytes().as_slice());
        }
        for settlement in settlements {
            let (letter, record) = match settlement {
                Settlement::Commit { .. } => continue,
                Settlement::CommitEarlier { fingerprint, created_at, .. } => {
                    ("e", Some(pack_record(fingerprint, *created_at)))
                }
                Settlement::Release { .. } => ("r", None),
                Settlement::WriteOff { .. } => ("w", None),
                Settlement::Abandon { .. } => ("a", None),
            };
            let record = record.as_ref().map_or(&[][..], <[u8; RECORD_BYTES]>::as_slice);
            call.arg(letter).arg(settlement.order_no().as_bytes().as_slice()).arg(record);
        }
        call
    }

    pub(super) fn adjust(&self, sku: u16, units: i64) -> Cmd {
        let mut call = self.call(Script::Adjust, 2, 32);
        call.arg(sku).arg(units);
        call
    }

    pub(super) fn return_units(&self, returns: &[ReturnedUnits]) -> Cmd {
        let mut call = self.call(Script::ReturnUnits, 2 * returns.len(), 24 * returns.len());
        call.arg(returns.len());
        for back in returns {
            // The bytes from `USER` to `SKU` of a reservation.
            let buyer = [back.user.get().to_be_bytes().as_slice(), back.sku.to_be_bytes().as_slice()].concat();
            call.arg(buyer.as_slice()).arg(back.units);
        }
        call
    }

    pub(super) fn overdue(&self, now_ms: UnixMs, max: usize, cursor: u64) -> Cmd {
        let mut call = self.call(Script::Overdue, 5, 64);
        let until_ms = six_bytes(now_ms.saturating_add(limits::LEASE_MS));
        call.arg(now_ms).arg(LEASE_MS_MAX).arg(until_ms.as_slice()).arg(max).arg(cursor);
        call
    }
}

fn switch_number(switch: Switch) -> u8 {
    match switch {
        Switch::Running => 0,
        Switch::Paused => 1,
        Switch::Ended => 2,
    }
}

fn switch_of(number: i64) -> Option<Switch> {
    Switch::ALL.iter().copied().find(|switch| i64::from(switch_number(*switch)) == number)
}

fn optional(number: Option<impl ToString>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// Nothing if every request may create, else a letter for each.
fn modes(requests: &[&ReserveRequest]) -> String {
    if requests.iter().all(|request| request.mode == ReserveMode::Create) {
        return String::new();
    }
    let letter = |request: &&ReserveRequest| match request.mode {
        ReserveMode::Create => 'c',
        ReserveMode::Resume => 'r',
        ReserveMode::Look => 'l',
    };
    requests.iter().map(letter).collect()
}

/// The units that all requests together want of each sku. Batches have few skus, so a list is searched faster than a map.
fn units_by_sku(requests: &[&ReserveRequest]) -> Vec<(u16, u64)> {
    let mut skus: Vec<(u16, u64)> = Vec::with_capacity(1);
    for request in requests {
        let units = u64::from(request.reservation.quantity);
        match skus.iter_mut().find(|(sku, _)| *sku == request.reservation.sku) {
            Some((_, sum)) => *sum += units,
            None => skus.push((request.reservation.sku, units)),
        }
    }
    skus
}

/// A time in 48 bits, which last until the year 10889; a time before 1970 is 1970.
fn six_bytes(ms: UnixMs) -> [u8; 6] {
    let ms = u64::try_from(ms).unwrap_or(0).min((1 << 48) - 1);
    let [_, _, bytes @ ..] = ms.to_be_bytes();
    bytes
}

fn pack(request: &ReserveRequest, until_ms: UnixMs) -> [u8; RESERVATION_BYTES] {
    let reservation = &request.reservation;
    let mut bytes = [0; RESERVATION_BYTES];
    let (start, end) = reservation.fingerprint.as_bytes().split_at(FINGERPRINT.len());
    put(&mut bytes, FINGERPRINT, start);
    put(&mut bytes, CREATED_AT, &six_bytes(reservation.created_at));
    put(&mut bytes, FINGERPRINT_REST, end);
    put(&mut bytes, USER, &reservation.user.get().to_be_bytes());
    put(&mut bytes, SKU, &reservation.sku.to_be_bytes());
    put(&mut bytes, QUANTITY, &reservation.quantity.to_be_bytes());
    put(&mut bytes, ATTEMPT_ID, &request.attempt_id.to_be_bytes());
    put(&mut bytes, UNTIL, &six_bytes(until_ms));
    bytes
}

fn pack_record(fingerprint: &Fingerprint, created_at: UnixMs) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    put(&mut bytes, FINGERPRINT, fingerprint.as_bytes().split_at(FINGERPRINT.len()).0);
    put(&mut bytes, CREATED_AT, &six_bytes(created_at));
    bytes
}

/// Writes one field, which has the length that the constants above say.
#[allow(clippy::indexing_slicing, reason = "every field lies within the bytes of a reservation or a record")]
fn put(bytes: &mut [u8], field: Range<usize>, value: &[u8]) {
    bytes[field].copy_from_slice(value);
}

/// Reads one field.
fn field<const N: usize>(bytes: &[u8], field: Range<usize>) -> Option<[u8; N]> {
    bytes.get(field)?.try_into().ok()
}

fn time(bytes: [u8; 6]) -> UnixMs {
    let [a, b, c, d, e, f] = bytes;
    UnixMs::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn unpack(order_no: &[u8], bytes: &[u8]) -> Option<Reservation> {
    let order_no = OrderNo::from_bytes(order_no.try_into().ok()?);
    let fingerprint = [bytes.get(FINGERPRINT)?, bytes.get(FINGERPRINT_REST)?].concat();
    Some(Reservation {
        order_no,
        fingerprint: Fingerprint::from_bytes(fingerprint.try_into().ok()?),
        user: UserId::new(u64::from_be_bytes(field(bytes, USER)?)).ok()?,
        sku: u16::from_be_bytes(field(bytes, SKU)?),
        quantity: u32::from_be_bytes(field(bytes, QUANTITY)?),
        created_at: time(field(bytes, CREATED_AT)?),
    })
}

/// An answer that none of the scripts gives. The call did run.
fn unreadable(value: &Value) -> Error {
    let mut text = format!("unreadable answer {value:?}");
    text.truncate(text.floor_char_boundary(limits::DETAIL_BYTES_MAX));
    Error::Unknown(text)
}

/// The answer of `reserve` to `requests`.
pub(super) fn reserve_outcomes(value: &Value, requests: &[&ReserveRequest]) -> Result<Vec<ReserveOutcome>, Error> {
    match value {
        Value::Int(0) => Ok(vec![ReserveOutcome::StaleEpoch; requests.len()]),
        Value::Int(1) => Ok(requests.iter().map(|request| newly_reserved(request)).collect()),
        Value::Array(parts) => outcome_each(parts, requests).ok_or_else(|| unreadable(value)),
        _ => Err(unreadable(value)),
    }
}

fn newly_reserved(request: &ReserveRequest) -> ReserveOutcome {
    ReserveOutcome::Reserved { created_at: request.reservation.created_at, resumed: false }
}

fn outcome_each(parts: &[Value], requests: &[&ReserveRequest]) -> Option<Vec<ReserveOutcome>> {
    let [Value::BulkString(codes), Value::BulkString(times), Value::Int(state), starts_at, remembers_all] = parts
    else {
        return None;
    };
    let state = match state {
        0 => SaleState::Open,
        1 => SaleState::Scheduled(number(starts_at)?),
        2 => SaleState::Paused,
        _ => SaleState::Ended,
    };
    let remembers_all = number(remembers_all)? == 1;
    // One time for each code that carries one, in order.
    let mut times = times.chunks_exact(CREATED_AT.len());
    let mut next_time = || Some(time(times.next()?.try_into().ok()?));
    let mut outcomes = Vec::with_capacity(requests.len());
    for (code, request) in codes.iter().zip(requests) {
        let code = ReserveCode::ALL.get(usize::from(code.checked_sub(b'0')?))?;
        let refused = |why| ReserveOutcome::Denied { why, remembers_all };
        outcomes.push(match code {
            ReserveCode::Reserved => newly_reserved(request),
            ReserveCode::ReservedAgain => ReserveOutcome::Reserved { created_at: next_time()?, resumed: false },
            ReserveCode::Resumed => ReserveOutcome::Reserved { created_at: next_time()?, resumed: true },
            ReserveCode::Recorded => ReserveOutcome::Recorded { created_at: next_time()? },
            ReserveCode::InFlight => ReserveOutcome::InFlight,
            ReserveCode::OtherContent => ReserveOutcome::OtherContent,
            ReserveCode::NotFound => ReserveOutcome::NotFound,
            ReserveCode::SegmentEmpty => refused(Denial::SegmentEmpty),
            ReserveCode::UserLimit => refused(Denial::UserLimit),
            ReserveCode::NotOpen => refused(Denial::NotOpen(state)),
        });
    }
    (outcomes.len() == requests.len()).then_some(outcomes)
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// The answer of `load`, `settle`, `switch` and `return_units`: only that they ran matters.
pub(super) fn done(value: &Value) -> Result<(), Error> {
    moved(value).map(|_| ())
}

/// The answer of `adjust`.
pub(super) fn moved(value: &Value) -> Result<i64, Error> {
    number(value).ok_or_else(|| unreadable(value))
}

/// The answer of `level`.
pub(super) fn level(value: &Value) -> Result<Level, Error> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let mut numbers = parts.iter().map(number);
        let (epoch, reservations) = (numbers.next()??, numbers.next()??);
        let epoch = Epoch::new(epoch);
        let mut level = Level { epoch, reservations: usize::try_from(reservations).ok()?, ..Level::default() };
        if let Some(switch) = numbers.next() {
            level.switch = Some(switch_of(switch?)?);
        }
        while let Some(available) = numbers.next() {
            level.available.push(available?);
            level.reserved.push(numbers.next()??);
        }
        Some(level)
    };
    read().ok_or_else(|| unreadable(value))
}

/// The answer of `overdue`: the cursor of the next page, 0 at the end, and reservations.
pub(super) fn overdue(value: &Value) -> Result<(u64, Vec<Reservation>), Error> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let (cursor, rest) = parts.split_first()?;
        let Value::BulkString(cursor) = cursor else { return None };
        let cursor = std::str::from_utf8(cursor).ok()?.parse().ok()?;
        let reservations = rest.chunks(2).map(|pair| match pair {
            [Value::BulkString(order_no), Value::BulkString(reservation)] => unpack(order_no, reservation),
            _ => None,
        });
        Some((cursor, reservations.collect::<Option<Vec<Reservation>>>()?))
    };
    read().ok_or_else(|| unreadable(value))
}
