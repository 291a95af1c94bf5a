//! What the engine keeps beside each shard of a sale: the gate epoch it believes in, and whether orders bypass the gate.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::time::Instant;

use crate::limits;
use crate::order::Epoch;

/// The shards of one sale.
pub(in crate::engine) struct ShardStates {
    since: Instant,
    shards: Vec<ShardRuntime>,
}

/// What the engine keeps beside a shard.
#[derive(Default)]
struct ShardRuntime {
    /// Its gate epoch; 0 before the first load.
    epoch: AtomicI64,
    /// Whether this engine loaded it again after the first time, which makes the gate forget reservations.
    is_reloaded: AtomicBool,
    /// Whether orders bypass its gate, because it failed or earlier orders did: it needs a new epoch.
    is_bypassed: AtomicBool,
    /// When it may be loaded again; in the past unless it keeps failing.
    reload_at_ms: AtomicI64,
    /// How long it was bypassed last time.
    pause_ms: AtomicI64,
    /// When it was loaded last; 0: never.
    loaded_at_ms: AtomicI64,
}

impl ShardStates {
    pub(super) fn new(shards: u16) -> Self {
        ShardStates { since: Instant::now(), shards: (0..shards).map(|_| ShardRuntime::default()).collect() }
    }

    /// The epoch that this engine believes in; `None` before the first load.
    pub(in crate::engine) fn epoch(&self, shard: u16) -> Option<Epoch> {
        Epoch::new(self.shard(shard)?.epoch.load(Ordering::SeqCst))
    }

    pub(in crate::engine) fn set_epoch(&self, shard: u16, epoch: Epoch) {
        if let Some(shard) = self.shard(shard) {
            shard.epoch.store(epoch.get(), Ordering::SeqCst);
        }
    }

    /// To be called before this engine loads a shard.
    pub(in crate::engine) fn begin_load(&self, shard: u16) {
        if let Some(shard) = self.shard(shard)
            && shard.loaded_at_ms.load(Ordering::SeqCst) > 0
        {
            shard.is_reloaded.store(true, Ordering::SeqCst);
        }
    }

    /// Whether this engine loaded a shard more than once.
    pub(in crate::engine) fn is_reloaded(&self, shard: u16) -> bool {
        self.shard(shard).is_none_or(|shard| shard.is_reloaded.load(Ordering::SeqCst))
    }

    /// Whether orders bypass a shard's gate.
    pub(in crate::engine) fn is_bypassed(&self, shard: u16) -> bool {
        self.shard(shard).is_some_and(ShardRuntime::is_bypassed)
    }

    /// Whether a shard's gate is bypassed and may be loaded again.
    pub(in crate::engine) fn may_reload(&self, shard: u16) -> bool {
        let now_ms = self.elapsed_ms();
        self.shard(shard)
            .is_some_and(|shard| shard.is_bypassed() && shard.reload_at_ms.load(Ordering::SeqCst) <= now_ms)
    }

    /// Shards whose gate is bypassed.
    pub(in crate::engine) fn count_bypassed(&self) -> usize {
        self.shards.iter().filter(|shard| shard.is_bypassed()).count()
    }

    /// Bypasses a shard's gate. One that fails soon after it was loaded is bypassed longer from time to time: a Redis
    /// that is full takes a load and refuses every order.
    pub(in crate::engine) fn bypass(&self, shard: u16) {
        let Some(shard) = self.shard(shard) else { return };
        if shard.is_bypassed.swap(true, Ordering::SeqCst) {
            return;
        }
        let now_ms = self.elapsed_ms();
        let loaded_at_ms = shard.loaded_at_ms.load(Ordering::SeqCst);
        let is_steady = loaded_at_ms == 0 || now_ms - loaded_at_ms > limits::GATE_STEADY_MS;
        let before_ms = shard.pause_ms.load(Ordering::SeqCst);
        let pause_ms = if is_steady { 0 } else { (2 * before_ms).clamp(250, limits::GATE_BACK_MS_MAX) };
        shard.pause_ms.store(pause_ms, Ordering::SeqCst);
        shard.reload_at_ms.store(now_ms + pause_ms, Ordering::SeqCst);
    }

    /// Uses a shard's gate again.
    pub(in crate::engine) fn end_bypass(&self, shard: u16) {
        if let Some(shard) = self.shard(shard) {
            shard.loaded_at_ms.store(self.elapsed_ms(), Ordering::SeqCst);
            shard.is_bypassed.store(false, Ordering::SeqCst);
        }
    }

    fn shard(&self, shard: u16) -> Option<&ShardRuntime> {
        self.shards.get(usize::from(shard))
    }

    /// Milliseconds since this was made, plus one: 0 is never.
    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX / 2) + 1
    }
}

impl ShardRuntime {
    fn is_bypassed(&self) -> bool {
        self.is_bypassed.load(Ordering::SeqCst)
    }
}
