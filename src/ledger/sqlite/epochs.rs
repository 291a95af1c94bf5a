//! The gate epochs of a sale's shards.

use rusqlite::{Connection, OptionalExtension, params};

use super::read::parse_column;
use crate::ledger::{EpochRequest, EpochStart, Error, NewestEpoch};
use crate::order::{Epoch, SaleNo, SkuLevel, Switch};

const SELECT_EPOCH: &str = "SELECT epoch FROM epochs WHERE sale_no = ?1 AND shard = ?2";
const PUT_EPOCH: &str = "INSERT INTO epochs (sale_no, shard, epoch) VALUES (?1, ?2, ?3) \
     ON CONFLICT (sale_no, shard) DO UPDATE SET epoch = excluded.epoch";
const SELECT_LEVELS: &str = "SELECT s.total, s.held, s.sold, s.returned FROM segments s JOIN skus k ON k.no = s.sku_no \
     WHERE k.sale_no = ?1 AND s.shard = ?2 ORDER BY k.position";
const SELECT_SWITCH: &str = "SELECT switch FROM sales WHERE no = ?1";

/// The newest epoch of a shard, if it has one.
pub(super) fn newest(connection: &Connection, sale: SaleNo, shard: u16) -> Result<Option<Epoch>, Error> {
    let mut select = connection.prepare_cached(SELECT_EPOCH)?;
    Ok(select.query_row(params![sale.0, shard], |row| row.get(0)).optional()?.and_then(Epoch::new))
}

/// Begins an epoch unless another engine has; runs inside the caller's transaction, which is the only writer.
pub(super) fn begin(connection: &Connection, sale: SaleNo, request: EpochRequest) -> Result<NewestEpoch, Error> {
    let newest = newest(connection, sale, request.shard)?;
    if let Some(epoch) = newest
        && newest != request.after
    {
        return Ok(NewestEpoch { epoch, begun: None });
    }
    let epoch = Epoch::following(newest);
    connection.prepare_cached(PUT_EPOCH)?.execute(params![sale.0, request.shard, epoch.get()])?;
    let mut select = connection.prepare_cached(SELECT_LEVELS)?;
    let levels = select.query_map(params![sale.0, request.shard], |row| {
        Ok(SkuLevel { total: row.get(0)?, held: row.get(1)?, sold: row.get(2)?, returned: row.get(3)? })
    })?;
    let levels: Vec<SkuLevel> = levels.collect::<Result<_, _>>()?;
    if levels.is_empty() {
        return Err(Error::Corrupt(format!("sale {} has no segment of stock in shard {}", sale.0, request.shard)));
    }
    let mut select = connection.prepare_cached(SELECT_SWITCH)?;
    let mut rows = select.query([sale.0])?;
    let missing = || Error::Corrupt(format!("sale {} is not in the ledger", sale.0));
    let switch = parse_column(rows.next()?.ok_or_else(missing)?, 0, Switch::parse)?;
    Ok(NewestEpoch { epoch, begun: Some(EpochStart { levels, switch }) })
}
