//! Buyers that behave as clients should: each repeats its operation under the same key until the answer is final, at
//! whatever engine it reaches, and some send the same operation twice at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::book::{Book, Operation, Plan};
use crate::client::{Answer, Client, Request, get};
use crate::contract::{code, placed};
use crate::random::Random;
use crate::world::World;

const BUYERS: usize = 8;
/// How long a buyer waits for an answer before asking again, perhaps elsewhere.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause of a buyer between two operations until told otherwise: no more than 270 orders a second, however fast the
/// machine, so that the stock lasts until the fault.
const PACE_MS: u64 = 30;
/// Pause before a repeat, in ms at most.
const PAUSE_MS: u64 = 60;
/// Longest wait for what the crowd must come to.
const EVENTUALLY: Duration = Duration::from_secs(60);
/// How long "everything is sold" is tried to be proved wrong.
const STABLE: Duration = Duration::from_millis(500);

pub(crate) struct Crowd {
    name: String,
    shared: Arc<Shared>,
    buyers: Vec<JoinHandle<()>>,
}

struct Shared {
    sale_id: String,
    plan: Plan,
    book: Arc<Book>,
    /// Where engines listen; those that are down are not there.
    doors: Mutex<Vec<SocketAddr>>,
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
            book: Arc::new(Book::default()),
            doors: Mutex::new(world.doors()),
            pace_ms: AtomicU64::new(PACE_MS),
            units_max: AtomicU64::new(stock * 4 / 5),
            stops: AtomicBool::new(false),
        });
        let buyer = |mut random: Random| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.buy(&mut random))
        };
        let buyers = (0..BUYERS).map(|_| buyer(random.split())).collect();
        Crowd { name: world.database.name.clone(), shared, buyers }
    }

    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.shared.book
    }

    /// Tells the buyers where engines are now.
    pub(crate) fn go_to(&self, doors: Vec<SocketAddr>) {
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

    #[track_caller]
    fn wait(&self, what: &str, mut is_there: impl FnMut() -> bool) {
        let deadline = Instant::now() + EVENTUALLY;
        while !is_there() {
            assert!(!self.buyers.iter().any(JoinHandle::is_finished), "a buyer got an answer that is none");
            let ((orders, units), refusals) = (self.book().sold(), self.book().refusals());
            assert!(
                Instant::now() < deadline,
                "no {what}; so far {orders} orders of {units} units, up to {}; refusals {refusals:?}",
                self.shared.units_max.load(Ordering::SeqCst)
            );
            std::thread::sleep(crate::server::POLL);
        }
    }

    /// Buys until everything is sold, and a little longer; `Err` tells what remained if it never is.
    pub(crate) fn sell_out(mut self, stock: u64) -> Result<Arc<Book>, String> {
        assert!(self.book().sold().1 < stock, "everything was sold before the fault was over");
        self.pace_ms(5);
        self.shared.units_max.store(u64::MAX, Ordering::SeqCst);
        let (began, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(self.shared.plan.patience_s));
        let (before, mut first_no, mut looked) = (self.book().sold().1, None, Instant::now());
        while self.book().sold().1 < stock {
            assert!(!self.buyers.iter().any(JoinHandle::is_finished), "a buyer got an answer that is none");
            if first_no.is_none() && self.book().heard("sold_out") > 0 {
                first_no = Some(Instant::now());
            }
            if first_no.is_some() && looked.elapsed() > STABLE {
                self.look_for_orders_of_those_who_gave_up();
                looked = Instant::now();
            }
            if Instant::now() > deadline {
                let ((orders, units), refusals) = (self.book().sold(), self.book().refusals());
                self.stop();
                return Err(format!("{units} of {stock} units in {orders} orders are sold; refusals {refusals:?}"));
            }
            std::thread::sleep(crate::server::POLL);
        }
        let rest = first_no.map(|first| first.elapsed());
        let ((orders, units), refusals) = (self.book().sold(), self.book().refusals());
        eprintln!(
            "{}: the last {} units took {:?}, {rest:?} of it after the first sold_out; {orders} orders, refusals \
             {refusals:?}",
            self.name,
            units - before,
            began.elapsed()
        );
        std::thread::sleep(STABLE);
        self.stop();
        Ok(self.book().clone())
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
            let mut buyer = Client::new(door, Some(operation.user));
            if buyer.try_send(get(by_key)).is_ok_and(|found| found.status == 200) {
                let mut buyer = Client::new(door, None);
                if let Ok(answer) = buyer.try_send(operation.request(&self.shared.sale_id)) {
                    self.book().note(n, &answer);
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
    fn stops(&self) -> bool {
        self.stops.load(Ordering::SeqCst)
    }

    fn buy(&self, random: &mut Random) {
        let mut courier = Courier::new(&self.book);
        while !self.stops() {
            let units_max = self.units_max.load(Ordering::SeqCst);
            let (n, operation) = self.book.next(&self.plan, units_max, random);
            while !self.stops() {
                let doors = self.doors.lock().unwrap().clone();
                if let Some(door) = doors.get(usize::try_from(random.next() % doors.len().max(1) as u64).unwrap())
                    && self.ask(&mut courier, *door, n, &operation, random)
                {
                    break;
                }
                std::thread::sleep(Duration::from_millis(random.within(5, PAUSE_MS)));
            }
            std::thread::sleep(Duration::from_millis(self.pace_ms.load(Ordering::SeqCst)));
        }
    }

    /// Asks once; whether that is enough: the answer is final, or the buyer gives up.
    fn ask(
        &self,
        courier: &mut Courier,
        door: SocketAddr,
        n: usize,
        operation: &Operation,
        random: &mut Random,
    ) -> bool {
        let Some(answer) = courier.bring(door, n, operation.request(&self.sale_id), &self.book) else {
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

/// Sends one request at a time. Whoever waits in vain leaves the courier behind with it: an answer that comes late is
/// still held against the book.
pub(crate) struct Courier {
    requests: SyncSender<(SocketAddr, usize, Request)>,
    answers: Receiver<Option<Answer>>,
}

impl Courier {
    pub(crate) fn new(book: &Arc<Book>) -> Self {
        let (requests, to_send) = sync_channel::<(SocketAddr, usize, Request)>(1);
        let (answered, answers) = sync_channel(1);
        let book = book.clone();
        std::thread::spawn(move || {
            let mut clients: BTreeMap<SocketAddr, Client> = BTreeMap::new();
            for (door, n, request) in to_send {
                let client = clients.entry(door).or_insert_with(|| Client::new(door, None));
                let answer = client.try_send(request).ok();
                if let Some(answer) = &answer {
                    book.note(n, answer);
                }
                if answered.send(answer).is_err() {
                    return;
                }
            }
        });
        Courier { requests, answers }
    }

    /// The answer; `None` if there was none in time.
    pub(crate) fn bring(&mut self, door: SocketAddr, n: usize, request: Request, book: &Arc<Book>) -> Option<Answer> {
        self.requests.send((door, n, request)).expect("the courier waits for requests");
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                *self = Courier::new(book);
                None
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the courier panicked"),
        }
    }
}
