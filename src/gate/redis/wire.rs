//! What goes to the scripts and what comes back, byte by byte. The headers in `lua/` say the same, and tests compare.

use redis::{Cmd, Value};

use super::key::key;
use super::link::Peer;
use super::script::Script;
use super::{Denial, Error, Level, ReserveMode, ReserveOutcome, ReserveRequest, ReturnedUnits, Settlement, ShardEpoch};
use crate::clock::UnixMs;
use crate::limits;
use crate::order::{Fingerprint, OrderNo, Reservation, Sale, SaleState, Switch, UserId};

/// A hold as the scripts keep it: fingerprint 8, created_at 6 | fingerprint 8 | user 8, sku 2, quantity 4 | by 8,
/// until_ms 6. Its first two parts are the record that is kept when the order is recorded: half a fingerprint tells
/// another content as surely as an operation needs, and 14 bytes are the most that fit a 16-byte allocation.
const HOLD_BYTES: usize = 50;
const RECORD_BYTES: usize = 14;

/// Longest time that may be left of a lease, given by an engine whose clock is ahead.
const LEASE_MS_MAX: i64 = limits::LEASE_MS + limits::CLOCKS_APART_MS;

/// What `reserve` says of an request, as in the header of `lua/reserve.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
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

impl Code {
    const ALL: [Code; 10] = [
        Code::Reserved,
        Code::ReservedAgain,
        Code::Resumed,
        Code::Recorded,
        Code::InFlight,
        Code::OtherContent,
        Code::NotFound,
        Code::SegmentEmpty,
        Code::UserLimit,
        Code::NotOpen,
    ];
}

/// Which shard of which ledger, in which process.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) peer: &'a Peer,
    pub(super) ledger_id: u64,
    pub(super) at: ShardEpoch,
}

impl To<'_> {
    /// A call with its keys.
    fn call(&self, script: Script, args: usize, bytes: usize) -> Cmd {
        let mut call = self.peer.command(script, args, bytes);
        for part in script.keys() {
            call.arg(key(self.ledger_id, self.at, *part));
        }
        call
    }

    /// A call that is for one epoch of one lineage.
    fn call_in_epoch(&self, script: Script, args: usize, bytes: usize) -> Cmd {
        let mut call = self.call(script, args, bytes);
        call.arg(self.at.epoch).arg(&self.peer.lineage);
        call
    }

    pub(super) fn load(&self, sale: &Sale, available: &[i64], remembers_all: bool) -> Cmd {
        let mut call = self.call_in_epoch(Script::Load, available.len(), 16 * available.len());
        call.arg(switch_number(sale.switch));
        // None is an empty text: an absent argument would move the others.
        call.arg(optional(sale.rules.starts_at)).arg(optional(sale.rules.ends_at));
        call.arg(optional(sale.rules.user_limit)).arg(u8::from(remembers_all)).arg(available.len());
        for units in available {
            call.arg(*units);
        }
        call
    }

    pub(super) fn reserve(&self, now_ms: UnixMs, requests: &[&ReserveRequest]) -> Cmd {
        let mut call = self.call_in_epoch(Script::Reserve, 2 * requests.len(), 96 * requests.len());
        let skus = units_by_sku(requests);
        call.arg(now_ms).arg(LEASE_MS_MAX).arg(letters(requests)).arg(requests.len()).arg(skus.len());
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
        let recorded = settlements.iter().filter_map(|settlement| match settlement {
            Settlement::Commit { order_no, .. } => Some(order_no),
            _ => None,
        });
        let count = recorded.clone().count();
        let mut call = self.call_in_epoch(Script::Settle, 3 * settlements.len(), 32 * settlements.len());
        call.arg(count).arg(settlements.len() - count);
        for order_no in recorded {
            call.arg(order_no.as_bytes().as_slice());
        }
        for settlement in settlements {
            let (what, order_no, record) = match settlement {
                Settlement::Commit { .. } => continue,
                Settlement::CommitEarlier { order_no, fingerprint, created_at } => {
                    ("k", order_no, pack_record(fingerprint, *created_at).to_vec())
                }
                Settlement::Release { order_no } => ("r", order_no, Vec::new()),
                Settlement::WriteOff { order_no } => ("v", order_no, Vec::new()),
                Settlement::Abandon { order_no } => ("a", order_no, Vec::new()),
            };
            call.arg(what).arg(order_no.as_bytes().as_slice()).arg(record.as_slice());
        }
        call
    }

    pub(super) fn switch(&self, switch: Switch) -> Cmd {
        let mut call = self.call(Script::Switch, 1, 1);
        call.arg(switch_number(switch));
        call
    }

    pub(super) fn adjust(&self, sku: u16, units: i64) -> Cmd {
        let mut call = self.call_in_epoch(Script::Adjust, 2, 32);
        call.arg(sku).arg(units);
        call
    }

    pub(super) fn return_units(&self, returns: &[ReturnedUnits]) -> Cmd {
        let mut call = self.call_in_epoch(Script::ReturnUnits, 2 * returns.len(), 24 * returns.len());
        call.arg(returns.len());
        for back in returns {
            // As it stands in a hold: user 8, sku 2.
            let buyer = [back.user.get().to_be_bytes().as_slice(), back.sku.to_be_bytes().as_slice()].concat();
            call.arg(buyer.as_slice()).arg(back.units);
        }
        call
    }

    pub(super) fn level(&self) -> Cmd {
        let mut call = self.call(Script::Level, 1, 40);
        call.arg(&self.peer.lineage);
        call
    }

    pub(super) fn overdue(&self, now_ms: UnixMs, max: usize, cursor: u64) -> Cmd {
        let mut call = self.call_in_epoch(Script::Overdue, 5, 64);
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

/// Nothing if every ask may create, else a letter for each.
fn letters(requests: &[&ReserveRequest]) -> String {
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

/// What all asks together want of each sku. Batches have few skus, so a list is searched faster than a map.
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

fn pack(request: &ReserveRequest, until_ms: UnixMs) -> [u8; HOLD_BYTES] {
    let reservation = &request.reservation;
    let mut bytes = [0; HOLD_BYTES];
    let mut rest = bytes.as_mut_slice();
    let (first, second) = reservation.fingerprint.as_bytes().split_at(8);
    for part in [
        first,
        &six_bytes(reservation.created_at),
        second,
        &reservation.user.get().to_be_bytes(),
        &reservation.sku.to_be_bytes(),
        &reservation.quantity.to_be_bytes(),
        &request.attempt_id.to_be_bytes(),
        &six_bytes(until_ms),
    ] {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    bytes
}

fn pack_record(fingerprint: &Fingerprint, created_at: UnixMs) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let (start, time) = bytes.split_at_mut(8);
    start.copy_from_slice(fingerprint.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
    time.copy_from_slice(&six_bytes(created_at));
    bytes
}

/// Cuts the first `N` bytes off.
fn cut<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn time(bytes: [u8; 6]) -> UnixMs {
    let [a, b, c, d, e, f] = bytes;
    UnixMs::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn unpack(order_no: &[u8], mut bytes: &[u8]) -> Option<Reservation> {
    let order_no = OrderNo::from_bytes(order_no.try_into().ok()?);
    let first = cut::<8>(&mut bytes)?;
    let created_at = time(cut(&mut bytes)?);
    let second = cut::<8>(&mut bytes)?;
    let mut fingerprint = [0; 16];
    let (start, end) = fingerprint.split_at_mut(8);
    start.copy_from_slice(&first);
    end.copy_from_slice(&second);
    Some(Reservation {
        order_no,
        fingerprint: Fingerprint::from_bytes(fingerprint),
        user: UserId::new(u64::from_be_bytes(cut(&mut bytes)?)).ok()?,
        sku: u16::from_be_bytes(cut(&mut bytes)?),
        quantity: u32::from_be_bytes(cut(&mut bytes)?),
        created_at,
    })
}

/// An answer that none of our scripts gives. It did run.
fn unreadable(value: &Value) -> Error {
    let mut text = format!("unreadable answer {value:?}");
    text.truncate(text.floor_char_boundary(limits::DETAIL_BYTES_MAX));
    Error::Unknown(text)
}

/// What `reserve` answered to `requests`.
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
    let mut times = times.as_slice();
    let mut outcomes = Vec::with_capacity(requests.len());
    for (code, request) in codes.iter().zip(requests) {
        let code = Code::ALL.get(usize::from(code.checked_sub(b'0')?))?;
        let refused = |why| ReserveOutcome::Refused { why, remembers_all };
        outcomes.push(match code {
            Code::Reserved => newly_reserved(request),
            Code::ReservedAgain => ReserveOutcome::Reserved { created_at: time(cut(&mut times)?), resumed: false },
            Code::Resumed => ReserveOutcome::Reserved { created_at: time(cut(&mut times)?), resumed: true },
            Code::Recorded => ReserveOutcome::Recorded { created_at: time(cut(&mut times)?) },
            Code::InFlight => ReserveOutcome::InFlight,
            Code::OtherContent => ReserveOutcome::OtherContent,
            Code::NotFound => ReserveOutcome::NotFound,
            Code::SegmentEmpty => refused(Denial::SegmentEmpty),
            Code::UserLimit => refused(Denial::UserLimit),
            Code::NotOpen => refused(Denial::NotOpen(state)),
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

/// What `load`, `settle`, `switch` and `return_units` answered: that they ran is all there is to know.
pub(super) fn done(value: &Value) -> Result<(), Error> {
    moved(value).map(|_| ())
}

/// What `adjust` answered.
pub(super) fn moved(value: &Value) -> Result<i64, Error> {
    number(value).ok_or_else(|| unreadable(value))
}

/// What `level` answered.
pub(super) fn level(value: &Value) -> Result<Level, Error> {
    let read = || {
        let Value::Array(parts) = value else { return None };
        let mut numbers = parts.iter().map(number);
        let (epoch, reservations) = (numbers.next()??, numbers.next()??);
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

/// What `overdue` answered: reservations, and where to look on, 0 at the end.
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
