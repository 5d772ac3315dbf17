//! From a time to a batch.
//!
//! Invariant: the answer is that of the log as it stood at one moment, but for what was trimmed during the search.
//! What is found in memory at that moment bounds the search of the disk, so an entry that is synced and evicted
//! meanwhile is not missed between the two.

use super::walk::{Target, Walk};
use super::{LogReader, ReadBatch, ReadError, Shared, View};
use crate::envelope::Envelope;
use crate::index::SegmentIndex;
use crate::tail::Slot;

impl LogReader {
    /// The first batch kept, none with an LSN above `up_to_lsn`, whose greatest timestamp is `timestamp_ms` or
    /// later; the record is in it. May block on the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn lsn_for_time(&self, timestamp_ms: i64, up_to_lsn: u64) -> Result<Option<ReadBatch>, ReadError> {
        let Search { sought, in_memory, walks } = Search::begin(&self.shared, timestamp_ms);
        let visible = |batch: &ReadBatch| batch.last_lsn() <= up_to_lsn;
        for mut walk in walks {
            match sought.on_disk(&mut walk) {
                Ok(None) => {}
                Ok(found) => return Ok(found.filter(visible)),
                // Trimmed since: what is left begins further on.
                Err(ReadError::BelowStart { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(in_memory.filter(visible))
    }
}

#[derive(Clone, Copy)]
struct Sought {
    timestamp_ms: i64,
    log_start: u64,
}

struct Search<'a> {
    sought: Sought,
    /// The first such batch whose bytes are in memory.
    in_memory: Option<ReadBatch>,
    /// One for each segment with entries before that one.
    walks: Vec<Walk<'a>>,
}

impl<'a> Search<'a> {
    fn begin(shared: &'a Shared, timestamp_ms: i64) -> Self {
        let view = shared.view();
        let sought = Sought { timestamp_ms, log_start: view.log_start };
        let (below, in_memory) = sought.in_memory(&view).unzip();
        let below = below.unwrap_or(u64::MAX);
        let too_early = |index: &SegmentIndex| index.max_timestamp_ms() < timestamp_ms;
        let segments = view.index.segments().filter(|segment| {
            segment.checkpoint.index + 1 < below && !segment.index.as_deref().is_some_and(too_early)
        });
        let target = Target::Time(timestamp_ms);
        let walks = segments.map(|segment| Walk::new(shared, &view, segment, target).below(below)).collect();
        Self { sought, in_memory, walks }
    }
}

impl Sought {
    fn is(&self, envelope: &Envelope) -> bool {
        let next = envelope.first_lsn + u64::from(envelope.record_count);
        envelope.record_count > 0 && envelope.max_timestamp_ms >= self.timestamp_ms && next > self.log_start
    }

    fn in_memory(&self, view: &View) -> Option<(u64, ReadBatch)> {
        let mut late = view.tail.slots().filter(|slot| slot.envelope.is_some_and(|e| self.is(&e)));
        late.find_map(|slot| Some((slot.index, slot.batch()?)))
    }

    fn on_disk(&self, walk: &mut Walk<'_>) -> Result<Option<ReadBatch>, ReadError> {
        walk.seek()?;
        while let Some(frame) = walk.next_in_segment()? {
            if let Some(envelope) = frame.envelope.filter(|envelope| self.is(envelope)) {
                return Ok(Some(ReadBatch::new(envelope, &frame.entry.body)));
            }
        }
        Ok(None)
    }
}

impl Slot {
    fn batch(&self) -> Option<ReadBatch> {
        Some(ReadBatch::new(self.envelope?, &self.entry()?.body))
    }
}
