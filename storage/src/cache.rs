//! How much memory the newest entries of several logs may take, all together.
//!
//! What holds:
//! - Logs that are written to share it evenly: each may keep the whole divided by how many hold more than a log at rest. What one
//!   has beyond that, because another came, it gives back with its next entry.
//! - A log at rest keeps [`RESTING_BYTES`] at the most, and does not count: it comes on top, and no share is smaller.
//! - What is not synced yet is kept in any case, and comes on top.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a log keeps though it is not written to: subscribers that come back after a moment find the last few entries there.
const RESTING_BYTES: usize = 64 << 10;

/// The memory that logs share for their newest entries.
#[derive(Debug)]
pub struct Cache {
    limit_bytes: usize,
    /// Logs that hold more than one at rest does.
    busy: AtomicUsize,
}

impl Cache {
    /// At most `limit_bytes` for all logs that are given it and written to; for what comes on top see the module.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, busy: AtomicUsize::new(0) })
    }

    /// What a log at rest may keep.
    pub(crate) fn resting_bytes(&self) -> usize {
        RESTING_BYTES.min(self.limit_bytes)
    }
}

/// One log's part in it.
#[derive(Debug)]
pub(crate) struct CacheShare {
    cache: Arc<Cache>,
    is_busy: bool,
}

impl CacheShare {
    pub(crate) fn new(cache: &Arc<Cache>) -> Self {
        Self { cache: Arc::clone(cache), is_busy: false }
    }

    /// What the log may keep while it is written to.
    pub(crate) fn limit_bytes(&self) -> usize {
        let busy = self.cache.busy.load(Ordering::Relaxed).max(1);
        (self.cache.limit_bytes / busy).max(self.cache.resting_bytes())
    }

    /// The log holds so many bytes now.
    pub(crate) fn holds(&mut self, bytes: usize) {
        match (self.is_busy, bytes > self.cache.resting_bytes()) {
            (false, true) => drop(self.cache.busy.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.cache.busy.fetch_sub(1, Ordering::Relaxed)),
            _ => return,
        }
        self.is_busy = !self.is_busy;
    }
}

impl Drop for CacheShare {
    fn drop(&mut self) {
        self.holds(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_that_hold_much_share_evenly_and_others_do_not_count() {
        let cache = Cache::new(1 << 20);
        let mut shares: Vec<CacheShare> = (0..4).map(|_| CacheShare::new(&cache)).collect();
        assert_eq!(shares[0].limit_bytes(), 1 << 20);
        for share in &mut shares {
            share.holds(RESTING_BYTES + 1);
            share.holds(RESTING_BYTES + 2);
        }
        assert_eq!(shares[0].limit_bytes(), (1 << 20) / 4);
        shares[1].holds(RESTING_BYTES);
        drop(shares.pop());
        assert_eq!(shares[0].limit_bytes(), (1 << 20) / 2);
    }

    #[test]
    fn a_share_is_never_less_than_what_is_kept_at_rest_nor_more_than_all() {
        let cache = Cache::new(RESTING_BYTES * 2);
        let mut shares: Vec<CacheShare> = (0..4).map(|_| CacheShare::new(&cache)).collect();
        shares.iter_mut().for_each(|share| share.holds(RESTING_BYTES + 1));
        assert_eq!(shares[0].limit_bytes(), RESTING_BYTES);
        assert_eq!(CacheShare::new(&Cache::new(7)).limit_bytes(), 7);
        assert_eq!(CacheShare::new(&Cache::new(0)).limit_bytes(), 0);
    }
}
