//! Checks what a broker sends before anybody sees it.

use bytes::Bytes;
use lockstep_protocol::{BatchError, BatchHeader, Batches, RecordIter};

use super::ConsumedBatch;
use crate::error::ConsumeError;

/// Where a reader of one partition stands.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// The partition.
    pub partition: u32,
    /// The next LSN that is expected.
    pub next_lsn: u64,
}

impl Position {
    /// Checks every batch of a payload and moves behind it. Only the first batch after a (re)start may begin
    /// before the expected LSN, and must then reach it.
    ///
    /// # Errors
    /// A batch is damaged, missing or repeated.
    pub fn take(
        &mut self,
        payload: Bytes,
        restarted: bool,
        high_watermark: u64,
    ) -> Result<Vec<ConsumedBatch>, ConsumeError> {
        let mut checked = Vec::new();
        for batch in Batches::new(payload) {
            let inside_allowed = restarted && checked.is_empty();
            checked.push(self.take_batch(batch, inside_allowed, high_watermark)?);
        }
        Ok(checked)
    }

    fn take_batch(
        &mut self,
        batch: Result<Bytes, BatchError>,
        inside_allowed: bool,
        high_watermark: u64,
    ) -> Result<ConsumedBatch, ConsumeError> {
        let Self { partition, next_lsn } = *self;
        let damaged = |error| ConsumeError::Damaged { partition, lsn: next_lsn, error };
        let bytes = batch.map_err(damaged)?;
        let records = RecordIter::new(bytes.clone()).map_err(damaged)?;
        let header = BatchHeader::parse(&bytes).map_err(damaged)?;
        let (Some(first), Some(last)) = (header.first_lsn(), header.last_lsn()) else {
            return Err(damaged(BatchError::InvalidLsn { lsn: 0 }));
        };
        let begins_right = first == next_lsn || (inside_allowed && first < next_lsn && next_lsn <= last);
        if !begins_right {
            return Err(ConsumeError::Gap { partition, expected: next_lsn, found: first });
        }
        self.next_lsn = last + 1;
        let skip = usize::try_from(next_lsn - first).unwrap_or(usize::MAX);
        Ok(ConsumedBatch {
            partition,
            first_lsn: next_lsn,
            last_lsn: last,
            high_watermark,
            bytes,
            records,
            skip,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use lockstep_protocol::{BatchBuilder, ProducerSequence, Record, stamp};

    use super::*;

    fn batch(first_lsn: u64, records: u64) -> Bytes {
        let mut builder = BatchBuilder::new();
        for offset in 0..records {
            builder.push(&Record::new(0, format!("{}", first_lsn + offset))).unwrap();
        }
        let mut bytes = BytesMut::from(&builder.build(ProducerSequence::NONE).unwrap()[..]);
        stamp(&mut bytes, first_lsn, 1).unwrap();
        bytes.freeze()
    }

    fn payload(batches: &[Bytes]) -> Bytes {
        Bytes::from(batches.concat())
    }

    fn position(next_lsn: u64) -> Position {
        Position { partition: 0, next_lsn }
    }

    fn lsns(batches: &[ConsumedBatch]) -> Vec<u64> {
        batches.iter().flat_map(ConsumedBatch::records).map(|record| record.unwrap().lsn).collect()
    }

    #[test]
    fn adjoining_batches_are_taken_and_numbered_without_a_gap() {
        let mut position = position(1);
        let taken = position.take(payload(&[batch(1, 2), batch(3, 3)]), false, 5).unwrap();
        assert_eq!(lsns(&taken), [1, 2, 3, 4, 5]);
        assert_eq!(position.next_lsn, 6);
    }

    #[test]
    fn a_missing_a_repeated_and_a_swapped_batch_are_refused() {
        for (sent, expected, found) in [
            (vec![batch(1, 2), batch(4, 1)], 3, 4),
            (vec![batch(1, 2), batch(1, 2)], 3, 1),
            (vec![batch(3, 2), batch(1, 2)], 1, 3),
        ] {
            let refused = position(1).take(payload(&sent), true, 9).unwrap_err();
            assert!(
                matches!(refused, ConsumeError::Gap { expected: e, found: f, .. } if (e, f) == (expected, found)),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_restart_inside_a_batch_skips_what_was_read() {
        let taken = position(4).take(payload(&[batch(2, 4)]), true, 5).unwrap();
        assert_eq!(lsns(&taken), [4, 5]);
        let refused = position(4).take(payload(&[batch(2, 4)]), false, 5).unwrap_err();
        assert!(matches!(refused, ConsumeError::Gap { expected: 4, found: 2, .. }), "only after a restart");
        let refused = position(4).take(payload(&[batch(2, 2)]), true, 5).unwrap_err();
        assert!(matches!(refused, ConsumeError::Gap { .. }), "a batch before the position is not inside it");
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let good = batch(1, 3);
        for at in 21..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            let refused = position(1).take(Bytes::from(bad), false, 3).unwrap_err();
            assert!(matches!(refused, ConsumeError::Damaged { lsn: 1, .. }), "byte {at}: {refused}");
        }
    }

    #[test]
    fn a_cut_off_batch_is_damage() {
        let good = batch(1, 3);
        let refused = position(1).take(good.slice(..good.len() - 1), false, 3).unwrap_err();
        assert!(matches!(refused, ConsumeError::Damaged { .. }));
    }
}
