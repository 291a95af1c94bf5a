//! Changes of orders in one transaction, and what is done when the ledger rejects it as a whole: a broken row, or one that
//! another engine has locked, is no reason to turn the other orders away.

use std::collections::{BTreeMap, VecDeque};

use super::Lifecycle;
use crate::ledger::{self, Change, ChangeOutcome};
use crate::limits;
use crate::order::OrderNo;

/// What came of each change, in order.
type Answers = Vec<Result<ChangeOutcome, ledger::Error>>;

/// Positions of changes that go into one transaction.
#[derive(Debug, PartialEq, Eq)]
enum ChangeGroup {
    /// All of one order.
    OneOrder(Vec<usize>),
    /// Of every order that is left: so many were locked that the ledger is asked no more often.
    Rest(Vec<usize>),
}

impl Lifecycle {
    /// Commits the changes; if the ledger rejects them because of one order, those of each order on their own.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Answers {
        let count = changes.len();
        match self.commit_together(changes.clone()).await {
            Ok(changed) => changed.into_iter().map(Ok).collect(),
            Err(error) if count > 1 && is_of_one_order(&error) => self.commit_by_order(changes).await,
            Err(error) => vec![Err(error); count],
        }
    }

    async fn commit_by_order(&self, changes: Vec<Change>) -> Answers {
        let mut answers = vec![Err(ledger::Error::Busy); changes.len()];
        let mut groups = by_order(&changes);
        let mut locked_orders = 0;
        while let Some(part) = next_group(&mut groups, locked_orders) {
            let of = |members: &[usize]| members.iter().filter_map(|n| changes.get(*n).cloned()).collect();
            let (members, changed) = match part {
                ChangeGroup::OneOrder(members) => {
                    let changed = self.commit_of_order(of(&members)).await;
                    (members, changed)
                }
                ChangeGroup::Rest(members) => {
                    let changed = self.commit_or_fail(of(&members)).await;
                    (members, changed)
                }
            };
            let is_any = |is: fn(&ledger::Error) -> bool| changed.iter().any(|changed| changed.as_ref().is_err_and(is));
            locked_orders += usize::from(is_any(|error| matches!(error, ledger::Error::Busy)));
            let is_ledger_away = is_any(is_away);
            for (n, changed) in members.into_iter().zip(changed) {
                if let Some(answer) = answers.get_mut(n) {
                    *answer = changed;
                }
            }
            if is_ledger_away {
                break;
            }
        }
        answers
    }

    /// Commits changes of one order; if one of them is broken, each on its own.
    async fn commit_of_order(&self, changes: Vec<Change>) -> Answers {
        let together = self.commit_or_fail(changes.clone()).await;
        if changes.len() == 1 || !matches!(together.first(), Some(Err(ledger::Error::Corrupt(_)))) {
            return together;
        }
        let mut each = Vec::with_capacity(changes.len());
        for change in changes {
            each.extend(self.commit_or_fail(vec![change]).await);
        }
        each
    }

    async fn commit_or_fail(&self, changes: Vec<Change>) -> Answers {
        let count = changes.len();
        match self.commit_together(changes).await {
            Ok(changed) => changed.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn commit_together(&self, changes: Vec<Change>) -> Result<Vec<ChangeOutcome>, ledger::Error> {
        let count = changes.len();
        let changed = self.core.ledger.change(changes, self.core.clock.now_ms()).await;
        if let Err(error) = &changed {
            tracing::error!(%error, changes = count, "could not commit {count} changes of orders to the ledger: {error}");
            if matches!(error, ledger::Error::Unknown(_)) {
                self.core.catalog.mark_all_dirty();
            }
        }
        changed
    }
}

/// Whether one order of a transaction is to blame, so that the others may do better without it.
fn is_of_one_order(error: &ledger::Error) -> bool {
    match error {
        ledger::Error::Corrupt(_) | ledger::Error::Busy => true,
        ledger::Error::Unavailable(_) | ledger::Error::Unknown(_) => false,
    }
}

/// Whether the ledger is in trouble, so that no order would do better.
fn is_away(error: &ledger::Error) -> bool {
    !is_of_one_order(error)
}

/// The positions of the changes by order, in the order of the numbers; those without an order come first.
fn by_order(changes: &[Change]) -> VecDeque<Vec<usize>> {
    let mut by_order: BTreeMap<Option<OrderNo>, Vec<usize>> = BTreeMap::new();
    for (n, change) in changes.iter().enumerate() {
        by_order.entry(change.order_no()).or_default().push(n);
    }
    by_order.into_values().collect()
}

/// What goes into the next transaction.
fn next_group(groups: &mut VecDeque<Vec<usize>>, locked_orders: usize) -> Option<ChangeGroup> {
    let next = groups.pop_front()?;
    if locked_orders < limits::LOCKED_ORDERS_PER_BATCH_MAX {
        Some(ChangeGroup::OneOrder(next))
    } else {
        Some(ChangeGroup::Rest(next.into_iter().chain(groups.drain(..).flatten()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_tried_one_by_one_until_too_many_were_locked() {
        let most = limits::LOCKED_ORDERS_PER_BATCH_MAX;
        let mut groups = VecDeque::from([vec![0, 2], vec![1], vec![3], vec![4]]);
        let rows = [
            (0, Some(ChangeGroup::OneOrder(vec![0, 2]))),
            (most - 1, Some(ChangeGroup::OneOrder(vec![1]))),
            (most, Some(ChangeGroup::Rest(vec![3, 4]))),
            (most, None),
        ];
        for (locked_orders, expected) in rows {
            assert_eq!(next_group(&mut groups, locked_orders), expected, "{locked_orders} locked");
        }
    }
}
