//! The names of the keys in Redis, spelt here and nowhere else.

use super::ShardId;

/// What Redis stores of one shard of one sale, each part under a key of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyPart {
    /// Epoch, lineage, rules, and the units per sku.
    State,
    /// The reservations that are not settled.
    Reservations,
    /// The recorded orders.
    Records,
    /// Units per user and sku, where the sale has a limit.
    Units,
}

impl KeyPart {
    fn name(self) -> &'static str {
        match self {
            KeyPart::State => "state",
            // As version 0.1 called it: two versions may share a Redis during an update.
            KeyPart::Reservations => "holds",
            KeyPart::Records => "records",
            KeyPart::Units => "units",
        }
    }
}

/// The hash tag of a shard, whatever the sale: a Redis Cluster puts all its keys on one node.
pub(super) fn tag(shard: u16) -> String {
    format!("rg:{shard}")
}

/// The key of one part. Ledgers may share a Redis: the numbers of their sales begin alike, so the ledger's id is in it.
pub(super) fn key(ledger_id: u64, at: ShardId, part: KeyPart) -> String {
    format!("{{{}}}:{ledger_id:016x}:{}:{}", tag(at.shard), at.sale.0, part.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::SaleNo;

    #[test]
    fn a_key_names_shard_ledger_sale_and_part() {
        let at = ShardId { sale: SaleNo(7), shard: 63 };
        assert_eq!(key(0xab, at, KeyPart::Reservations), "{rg:63}:00000000000000ab:7:holds");
    }
}
