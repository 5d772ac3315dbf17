//! Reading what of a damaged log is intact.

use super::pieces::Run;
use super::survey::Found;
use crate::frame::{FrameType, chain_after};
use crate::io::DiskFile;
use crate::reader::ChainedEntry;
use crate::scan::{Cursor, Frame, ScanError};
use std::io;
use std::sync::Arc;

/// Entries in order from one index on, without a gap.
pub(super) struct Reading {
    pub(super) taken: Vec<ChainedEntry>,
    next: u64,
    high: u64,
    max_bytes: usize,
    bytes: usize,
}

impl Reading {
    pub(super) fn new(low: u64, high: u64, max_bytes: usize) -> Self {
        Self { taken: Vec::new(), next: low, high, max_bytes, bytes: 0 }
    }

    /// Whether the next entry is in `run`.
    pub(super) fn wants(&self, run: &Run) -> bool {
        self.next < self.high && (run.first_index..=run.last.index).contains(&self.next)
    }

    /// Takes what is wanted of a run; `false` if there is no sense in going on behind it.
    pub(super) fn run(&mut self, file: Arc<dyn DiskFile>, found: &Found, run: &Run) -> io::Result<bool> {
        let after = run.points.partition_point(|(index, _)| *index <= self.next);
        let Some((_, position)) = after.checked_sub(1).and_then(|at| run.points.get(at)) else {
            return Ok(false);
        };
        let mut cursor = Cursor::new(file, found.header.nonce, *position, found.end).wanting(self.max_bytes);
        while self.next <= run.last.index {
            let frame = match cursor.next() {
                Ok(Some(frame)) => frame,
                Err(ScanError::Io(error)) => return Err(error),
                // It was intact when it was surveyed: what is left of it will be seen by the next survey.
                Ok(None) | Err(ScanError::Bad { .. } | ScanError::Unknown { .. }) => return Ok(false),
            };
            let wanted = frame.header.frame_type == FrameType::Entry && frame.entry.index >= self.next;
            if wanted && !self.take(frame) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn take(&mut self, frame: Frame) -> bool {
        let (entry, chain) = (frame.entry, frame.header.chain);
        let continues = entry.index == self.next
            && self.taken.last().is_none_or(|last| chain == chain_after(last.chain, &entry));
        self.bytes += entry.payload_bytes();
        let room = self.bytes <= self.max_bytes || self.taken.is_empty();
        if !continues || !room || entry.index >= self.high {
            return false;
        }
        self.next += 1;
        self.taken.push(ChainedEntry { entry, chain });
        true
    }
}
