//! Those who have to do with orders after they were made. Like buyers, they repeat what they want under the same key until
//! the answer is final, at whatever engine they reach, and sometimes send it twice at once.

use std::time::Duration;

use crate::book::About;
use crate::contract::code;
use crate::crowd::{PAUSE_MS, Shared};
use crate::http_worker::HttpWorker;
use crate::lifecycle::Act;
use crate::random::Random;

/// Of a hundred requests, how many are sent twice at once.
const TWICE: u64 = 20;
/// Of a hundred final answers, how many are asked for once more.
const ONCE_MORE: u64 = 15;

impl Shared {
    /// Does what is due until the crowd stops.
    pub(crate) fn attend(&self, random: &mut Random) {
        let mut workers = [HttpWorker::new(&self.book), HttpWorker::new(&self.book)];
        while !self.stops() {
            let Some(n) = self.book.due() else {
                std::thread::sleep(crate::wait::POLL);
                continue;
            };
            if self.book.ends() {
                self.see_through(&mut workers, n, random);
            } else {
                let fate = self.plan.lifecycle.expect("only orders of a sale with a lifecycle are due").fate(random);
                for acts in fate {
                    let deeds: Vec<usize> = acts.into_iter().map(|act| self.book.intend(n, act)).collect();
                    if !self.carry_out(&mut workers, n, &deeds, random) {
                        break;
                    }
                }
            }
            self.book.attended();
        }
    }

    /// Asks what came of all that nobody knows the end of, and pays what may still wait for its payment.
    fn see_through(&self, workers: &mut [HttpWorker; 2], n: usize, random: &mut Random) {
        for m in 0..self.book.operation(n).deeds.len() {
            self.carry_out(workers, n, &[m], random);
        }
        let operation = self.book.operation(n);
        if !operation.is_paid() && !operation.has(|act| act == Act::Cancel) {
            let paid = self.book.intend(n, Act::Paid(1));
            self.carry_out(workers, n, &[paid], random);
        }
    }

    /// One deed, or two at once; whether their ends are known, or somebody gave up.
    fn carry_out(&self, workers: &mut [HttpWorker; 2], n: usize, deeds: &[usize], random: &mut Random) -> bool {
        let mut asked = deeds.to_vec();
        if deeds.len() == 1 && random.within(1, 100) <= TWICE {
            asked.extend(deeds);
        }
        let mut is_first = true;
        loop {
            let operation = self.book.operation(n);
            asked.retain(|m| operation.deeds[*m].end.is_none());
            if asked.is_empty() {
                break;
            }
            if self.stops() {
                return false;
            }
            if !std::mem::take(&mut is_first) {
                std::thread::sleep(Duration::from_millis(random.within(5, PAUSE_MS)));
            }
            let has_answers = self.ask_at_once(workers, n, &asked, random);
            if !has_answers && !self.book.ends() && random.within(1, 100) <= self.plan.give_up {
                return false;
            }
        }
        if random.within(1, 100) <= ONCE_MORE {
            // The book compares what is said with what was said before.
            self.ask_at_once(workers, n, deeds, random);
        }
        true
    }

    /// Asks once, each at an engine of its own; whether all were answered.
    fn ask_at_once(&self, workers: &mut [HttpWorker; 2], n: usize, deeds: &[usize], random: &mut Random) -> bool {
        let operation = self.book.operation(n);
        let doors = self.doors.lock().unwrap().clone();
        if doors.is_empty() {
            return true;
        }
        for (worker, m) in workers.iter_mut().zip(deeds) {
            let (door, deed) =
                (doors[usize::try_from(random.number() % doors.len() as u64).unwrap()], &operation.deeds[*m]);
            let door = if deed.act.is_operators() { door.admin } else { door.public };
            worker.send(door, About::Deed(n, *m), deed.request(&operation));
        }
        let mut has_answers = true;
        for (worker, m) in workers.iter_mut().zip(deeds) {
            let Some(answer) = worker.wait(&self.book) else {
                self.book.note_refusal("nothing");
                has_answers = false;
                continue;
            };
            let Some(code) = code(&answer) else {
                assert_eq!(answer.status, 200, "{answer}");
                continue;
            };
            self.book.note_refusal(&code);
            let deed = &operation.deeds[*m];
            match (answer.status, &*code) {
                (_, "invalid_transition") if !deed.act.is_report() => {}
                (503 | 429, _) | (_, "idempotency_in_progress") => {}
                _ => panic!("no answer to {deed:?} of an order that was confirmed: {answer}"),
            }
        }
        has_answers
    }
}
