//! Buyers that behave as clients should: each repeats its operation under the same key until the answer is final, at
//! whatever engine it reaches, and some send the same operation twice at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::book::{About, Book, Operation, Plan};
use crate::client::{Client, get};
use crate::contract::{code, placed};
use crate::http_worker::HttpWorker;
use crate::random::Random;
use crate::shop::{Level, level_in};
use crate::world::{Door, World};

const BUYERS: usize = 8;
/// How many see to what is done to orders afterwards.
const ATTENDANTS: usize = 4;
/// Pause of a buyer between two operations until told otherwise: no more than 270 orders a second, however fast the
/// machine, so that the stock lasts until the fault.
const PACE_MS: u64 = 30;
/// Pause before a repeat, in ms at most.
pub(crate) const PAUSE_MS: u64 = 60;
/// Longest wait for what the crowd must come to.
const EVENTUALLY: Duration = Duration::from_secs(60);
/// Pause between two looks at the stock.
const LOOK: Duration = Duration::from_millis(50);
/// How long "everything is sold" is tried to be proved wrong.
const STABLE: Duration = Duration::from_millis(500);

pub(crate) struct Crowd {
    name: String,
    shared: Arc<Shared>,
    buyers: Vec<JoinHandle<()>>,
}

pub(crate) struct Shared {
    sale_id: String,
    pub(crate) plan: Plan,
    pub(crate) book: Arc<Book>,
    /// Where engines listen; those that are down are not there.
    pub(crate) doors: Mutex<Vec<Door>>,
    /// Pause of a buyer between two operations.
    pace_ms: AtomicU64,
    /// With so many units sold, nobody begins anything new.
    units_max: AtomicU64,
    stops: AtomicBool,
}

impl Crowd {
    /// Sends buyers to all engines. A part of the stock is kept until [`Crowd::sell_out`], so that no fault comes too
    /// late.
    pub(crate) fn start(world: &World, stock: u64, plan: Plan, random: &mut Random) -> Self {
        let shared = Arc::new(Shared {
            sale_id: crate::world::SALE.to_owned(),
            plan,
            book: Arc::new(Book::new(plan.lifecycle)),
            doors: Mutex::new(world.doors()),
            pace_ms: AtomicU64::new(PACE_MS),
            units_max: AtomicU64::new(stock * 4 / 5),
            stops: AtomicBool::new(false),
        });
        let buyer = |mut random: Random| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.buy(&mut random))
        };
        let attendant = |mut random: Random| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.attend(&mut random))
        };
        let attendants = if plan.lifecycle.is_some() { ATTENDANTS } else { 0 };
        let mut buyers: Vec<_> = (0..BUYERS).map(|_| buyer(random.split())).collect();
        buyers.extend((0..attendants).map(|_| attendant(random.split())));
        Crowd { name: world.database.name.clone(), shared, buyers }
    }

    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.shared.book
    }

    /// Tells the buyers where engines are now.
    pub(crate) fn go_to(&self, doors: Vec<Door>) {
        *self.shared.doors.lock().unwrap() = doors;
    }

    /// Another pause than [`PACE_MS`].
    pub(crate) fn pace_ms(&self, pace_ms: u64) {
        self.shared.pace_ms.store(pace_ms, Ordering::SeqCst);
    }

    pub(crate) fn orders(&self) -> u64 {
        self.book().sold().0
    }

    /// Waits for so many more orders.
    #[track_caller]
    pub(crate) fn wait_for(&self, more: u64) {
        let until = self.orders() + more;
        self.wait(&format!("{more} more orders"), || self.orders() >= until);
    }

    /// Waits until a refusal was heard again.
    #[track_caller]
    pub(crate) fn wait_to_hear(&self, code: &str) {
        let before = self.book().heard(code);
        self.wait(code, || self.book().heard(code) > before);
    }

    /// Waits until something is so, while buyers buy.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, mut is_there: impl FnMut() -> bool) {
        let deadline = Instant::now() + EVENTUALLY;
        while !is_there() {
            assert!(!self.buyers.iter().any(JoinHandle::is_finished), "a buyer got an answer that is none");
            assert!(
                Instant::now() < deadline,
                "no {what}; so far {}, {} of up to {} units live",
                self.account(),
                self.book().live_units(),
                self.shared.units_max.load(Ordering::SeqCst)
            );
            std::thread::sleep(crate::wait::POLL);
        }
    }

    /// Waits for so many more deeds of one kind.
    #[track_caller]
    pub(crate) fn wait_for_deeds(&self, word: &str, more: u64) {
        let done = || self.book().done().get(word).copied().unwrap_or(0);
        let until = done() + more;
        self.wait(&format!("{more} more {word}"), || done() >= until);
    }

    /// Buys until everything is sold, and a little longer; `Err` tells what remained if it never is.
    pub(crate) fn sell_out(mut self, stock: u64) -> Result<Arc<Book>, String> {
        assert!(self.book().live_units() < stock, "everything was sold before the fault was over");
        // Nobody needs to hurry where others have to do with every order.
        self.pace_ms(if self.shared.plan.lifecycle.is_some() { 20 } else { 5 });
        self.shared.units_max.store(u64::MAX, Ordering::SeqCst);
        if self.shared.plan.lifecycle.is_some() {
            self.book().end();
        }
        let (began, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(self.shared.plan.patience_s));
        let (before, mut first_no, mut looked) = (self.book().sold().1, None, Instant::now());
        while !self.is_sold_out(stock) {
            assert!(!self.buyers.iter().any(JoinHandle::is_finished), "a buyer got an answer that is none");
            if first_no.is_none() && self.book().heard("sold_out") > 0 {
                first_no = Some(Instant::now());
            }
            if first_no.is_some() && looked.elapsed() > STABLE {
                self.look_for_orders_of_those_who_gave_up();
                looked = Instant::now();
            }
            if Instant::now() > deadline {
                self.stop();
                return Err(self.account());
            }
        }
        let rest = first_no.map(|first| first.elapsed());
        eprintln!(
            "{}: the last {} units took {:?}, {rest:?} of it after the first sold_out; {}",
            self.name,
            self.book().sold().1 - before,
            began.elapsed(),
            self.account()
        );
        std::thread::sleep(STABLE);
        self.stop();
        Ok(self.book().clone())
    }

    /// What was sold and done, in one line.
    fn account(&self) -> String {
        let ((orders, units), done, refusals) = (self.book().sold(), self.book().done(), self.book().refusals());
        format!("{orders} orders of {units} units; done {done:?}; refusals {refusals:?}")
    }

    /// Looks, after a moment, whether all units are sold: as the buyers were told, or, where units come back, as an engine
    /// shows it when nothing is left to be done to any order.
    fn is_sold_out(&self, stock: u64) -> bool {
        if self.shared.plan.lifecycle.is_none() {
            std::thread::sleep(crate::wait::POLL);
            return self.book().sold().1 >= stock;
        }
        std::thread::sleep(LOOK);
        if !self.book().is_at_rest() {
            return false;
        }
        let Some(door) = self.shared.doors.lock().unwrap().first().copied() else { return false };
        let sale = Client::new(door.admin, None).try_send(get(format!("/admin/v1/sales/{}", self.shared.sale_id)));
        let Some(sale) = sale.ok().filter(|answer| answer.status == 200) else { return false };
        level_in(&sale.json(), "sku-1") == Level { total: stock, available: 0, held: 0, sold: stock }
    }

    /// Whoever gave up may have an order all the same. It is looked for by its key, which finishes nothing; only when
    /// it is there is the answer asked for.
    fn look_for_orders_of_those_who_gave_up(&self) {
        let Some(door) = self.shared.doors.lock().unwrap().first().copied() else { return };
        for (n, operation) in self.book().all().into_iter().enumerate().filter(|(_, operation)| operation.gave_up) {
            if operation.body.is_some() {
                continue;
            }
            let by_key = format!("/v1/orders?sale_id={}&idempotency_key={}", self.shared.sale_id, operation.key);
            let mut buyer = Client::new(door.public, Some(operation.user));
            if buyer.try_send(get(by_key)).is_ok_and(|found| found.status == 200) {
                let mut buyer = Client::new(door.public, None);
                if let Ok(answer) = buyer.try_send(operation.request(&self.shared.sale_id)) {
                    self.book().note(About::Order(n), &answer);
                }
            }
        }
    }

    fn stop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        for buyer in self.buyers.drain(..) {
            if let Err(panic) = buyer.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    pub(crate) fn stops(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    fn buy(&self, random: &mut Random) {
        let mut worker = HttpWorker::new(&self.book);
        while !self.stops() {
            let units_max = self.units_max.load(Ordering::SeqCst);
            let Some((n, operation)) = self.book.next(&self.plan, units_max, random) else {
                std::thread::sleep(crate::wait::POLL);
                continue;
            };
            while !self.stops() {
                let doors = self.doors.lock().unwrap().clone();
                if let Some(door) = doors.get(usize::try_from(random.number() % doors.len().max(1) as u64).unwrap())
                    && self.ask(&mut worker, *door, n, &operation, random)
                {
                    break;
                }
                std::thread::sleep(Duration::from_millis(random.within(5, PAUSE_MS)));
            }
            std::thread::sleep(Duration::from_millis(self.pace_ms.load(Ordering::SeqCst)));
        }
    }

    /// Asks once; whether that is enough: the answer is final, or the buyer gives up.
    fn ask(&self, worker: &mut HttpWorker, door: Door, n: usize, operation: &Operation, random: &mut Random) -> bool {
        worker.send(door.public, About::Order(n), operation.request(&self.sale_id));
        let Some(answer) = worker.wait(&self.book) else {
            self.book.note_refusal("nothing");
            let gives_up = random.within(1, 100) <= self.plan.give_up;
            if gives_up {
                self.book.note_given_up(n);
            }
            return gives_up;
        };
        let Some(code) = code(&answer) else {
            let order = placed(&answer);
            assert_eq!(
                (order["user_id"].as_u64(), order["quantity"].as_u64()),
                (Some(operation.user), Some(operation.quantity)),
                "{answer}"
            );
            return true;
        };
        self.book.note_refusal(&code);
        match (answer.status, &*code) {
            (_, "sold_out" | "limit_reached") => true,
            (503 | 429, _) | (_, "idempotency_in_progress") => false,
            _ => panic!("no answer to an order of an open sale: {answer}"),
        }
    }
}
