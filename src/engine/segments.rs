//! Segment files written ahead, for shards that are busy enough to be worth it.
//!
//! Syncing into a file that was written before costs the device no journal: many times faster than growing one when
//! shards sync side by side, and within 2% of the records' own bytes. But zeros are bytes too, so they are written
//! only while records come in fast enough to need the next segments soon, and never more than the pool holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lockstep_storage::{SegmentPool, io::Disk};

use super::blocking;
use crate::metrics;

/// How often the demand is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// The time for which segments are kept ready.
const AHEAD_PERIODS: u64 = 10;

/// The pool, and how fast it is being used.
pub struct Segments {
    /// Where logs take their new segment files from.
    pub pool: Arc<SegmentPool>,
    /// Bytes written to logs since the start.
    pub written_bytes: AtomicU64,
    files_max: usize,
}

impl Segments {
    /// Opens the pool of a data directory; without one, logs grow their files. Preparation leaves `reserve_bytes` of
    /// free space alone.
    pub fn open(disk: &Arc<dyn Disk>, files_max: usize, reserve_bytes: u64) -> Option<Arc<Self>> {
        match SegmentPool::open(Arc::clone(disk), files_max, reserve_bytes) {
            Ok(pool) => {
                Some(Arc::new(Self { pool: Arc::new(pool), written_bytes: AtomicU64::new(0), files_max }))
            }
            Err(error) => {
                tracing::warn!(%error, "no pool of segment files: new segments are grown, which syncs slower");
                None
            }
        }
    }

    /// Prepares files ahead of the demand until the engine is gone.
    pub fn keep_ready(segments: &Arc<Self>, segment_bytes: u64) {
        let weak = Arc::downgrade(segments);
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(PERIOD);
            let mut before = 0;
            loop {
                interval.tick().await;
                let Some(segments) = weak.upgrade() else { return };
                let written = segments.written_bytes.load(Ordering::Relaxed);
                let target = wanted(written - before, segment_bytes, segments.files_max);
                before = written;
                while segments.pool.available() < target {
                    let pool = Arc::clone(&segments.pool);
                    match blocking(move || pool.prepare(segment_bytes)).await {
                        Ok(bytes) => metrics::segment_prepared(bytes),
                        Err(error) => {
                            tracing::warn!(%error, "could not prepare a segment file; the next one is grown");
                            break;
                        }
                    }
                }
            }
        });
    }
}

/// Files that should be ready after a period in which `bytes` were written.
fn wanted(bytes: u64, segment_bytes: u64, files_max: usize) -> usize {
    let segments = (bytes * AHEAD_PERIODS).div_ceil(segment_bytes.max(1));
    // Less than one segment in all that time is not busy.
    if bytes * AHEAD_PERIODS < segment_bytes { 0 } else { (segments as usize).min(files_max) }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn an_idle_node_prepares_nothing_and_a_busy_one_no_more_than_the_pool_holds() {
        assert_eq!(wanted(0, 100, 4), 0);
        assert_eq!(wanted(9, 100, 4), 0);
        assert_eq!(wanted(11, 100, 4), 2);
        assert_eq!(wanted(1_000, 100, 4), 4);
    }
}
