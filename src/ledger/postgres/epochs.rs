//! The gate epochs of a sale's shards.

use std::collections::BTreeMap;

use sqlx::Row;

use super::read;
use super::session::Session;
use crate::ledger::{EpochRequest, EpochStart, Error, NewestEpoch};
use crate::order::{Epoch, SaleNo, SkuLevel, Switch};

/// Every segment of the shards, in the order in which every transaction locks them: while they are locked no order of the
/// shards is recorded, and of two engines one waits for the other.
const LOCK_LEVELS: &str = "SELECT s.shard, k.position, s.total, s.held, s.sold, s.returned \
     FROM skus k JOIN segments s ON s.sku_no = k.no AND s.shard = ANY ($2::integer[]) WHERE k.sale_no = $1 \
     ORDER BY s.sku_no, s.shard FOR UPDATE OF s";
/// A statement of its own, because its view begins after the locks.
const SELECT_EPOCHS: &str = "SELECT shard, epoch FROM epochs WHERE sale_no = $1 AND shard = ANY ($2::integer[])";
/// Locked, so that a switch comes before what is answered here or after this epoch has begun.
const LOCK_SWITCH: &str = "SELECT switch FROM sales WHERE no = $1 FOR SHARE";
const PUT_EPOCHS: &str = "INSERT INTO epochs (sale_no, shard, epoch) \
     SELECT $1, w.shard, w.epoch FROM UNNEST($2::integer[], $3::bigint[]) AS w(shard, epoch) \
     ON CONFLICT (sale_no, shard) DO UPDATE SET epoch = excluded.epoch";

/// Begins epochs unless another engine has.
pub(super) async fn begin(
    session: &mut Session,
    sale: SaleNo,
    requests: &[EpochRequest],
) -> Result<Vec<NewestEpoch>, Error> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    session.begin().await?;
    let sql = &mut session.sql;
    let shards: Vec<i32> = requests.iter().map(|request| i32::from(request.shard)).collect();
    let mut levels: BTreeMap<u16, Vec<(i32, SkuLevel)>> = BTreeMap::new();
    for row in sqlx::query(LOCK_LEVELS).bind(sale.0).bind(&shards).fetch_all(&mut *sql).await? {
        let level = (row.try_get(1)?, read::level(&row, 2)?);
        levels.entry(read::shard(&row, 0)?).or_default().push(level);
    }
    let mut newest: BTreeMap<u16, Epoch> = BTreeMap::new();
    for row in sqlx::query(SELECT_EPOCHS).bind(sale.0).bind(&shards).fetch_all(&mut *sql).await? {
        if let Some(epoch) = Epoch::new(row.try_get(1)?) {
            newest.insert(read::shard(&row, 0)?, epoch);
        }
    }
    let row = sqlx::query(LOCK_SWITCH).bind(sale.0).fetch_one(&mut *sql).await?;
    let switch = read::parse_column(&row, 0, Switch::parse)?;

    let (mut begun_shards, mut begun_epochs) = (Vec::new(), Vec::new());
    let mut epochs = Vec::with_capacity(requests.len());
    for request in requests {
        let before = newest.get(&request.shard).copied();
        // Of two requests for one shard the first begins its epoch.
        let is_begun = begun_shards.contains(&i32::from(request.shard));
        if let Some(epoch) = before
            && (is_begun || before != request.after)
        {
            epochs.push(NewestEpoch { epoch, begun: None });
            continue;
        }
        let epoch = Epoch::following(before);
        newest.insert(request.shard, epoch);
        begun_shards.push(i32::from(request.shard));
        begun_epochs.push(epoch.get());
        let missing = || Error::Corrupt(format!("sale {} has no segment of stock in shard {}", sale.0, request.shard));
        let mut levels = levels.remove(&request.shard).ok_or_else(missing)?;
        levels.sort_unstable_by_key(|(position, _)| *position);
        let levels = levels.into_iter().map(|(_, level)| level).collect();
        epochs.push(NewestEpoch { epoch, begun: Some(EpochStart { levels, switch }) });
    }
    if begun_shards.is_empty() {
        session.roll_back().await?;
        return Ok(epochs);
    }
    sqlx::query(PUT_EPOCHS).bind(sale.0).bind(begun_shards).bind(begun_epochs).execute(&mut *sql).await?;
    session.commit().await?;
    Ok(epochs)
}
