//! Which segments there are, and whether they continue each other.

use super::Directory;
use crate::cut;
use crate::group::remove_segment;
use crate::log::{Damage, RecoveryError};
use crate::salvage::NEW_VOTE_FILE_NAME;
use crate::segment::{SegmentHeader, SegmentHeaderError, is_temporary, number_of};
use std::io;

/// What stands in the directory and is not the log's any more.
pub(super) struct Leftovers {
    /// Names of files that were never completed.
    unfinished: Vec<String>,
    /// Segments before a RESTART, oldest first.
    voided: Vec<u64>,
}

impl Leftovers {
    pub(super) fn is_empty(&self) -> bool {
        self.unfinished.is_empty() && self.voided.is_empty()
    }

    /// Says in the directory that a segment is about to be cut; that goes with the rest.
    pub(super) fn mark_cut(&mut self, place: &Directory<'_>) -> io::Result<()> {
        cut::mark(&*place.disk, place.path)?;
        if !self.unfinished.iter().any(|name| name == cut::MARK_FILE_NAME) {
            self.unfinished.push(cut::MARK_FILE_NAME.to_owned());
        }
        Ok(())
    }

    /// Removes them; returns how many. Not before the names are durable because of which they go.
    pub(super) fn remove(&self, place: &Directory<'_>) -> io::Result<usize> {
        for name in &self.unfinished {
            place.disk.remove_file(&format!("{}/{name}", place.path))?;
        }
        let pool = place.options.pool.as_deref().map(|pool| (pool, place.options.segment_bytes));
        for number in &self.voided {
            remove_segment(&*place.disk, place.path, pool, *number)?;
        }
        if !self.unfinished.is_empty() {
            place.disk.sync_dir(place.path)?;
        }
        Ok(self.unfinished.len() + self.voided.len())
    }
}

/// The headers of the log's segments, oldest first, at least one; and what else is there.
pub(super) fn find(place: &Directory<'_>) -> Result<(Vec<SegmentHeader>, Leftovers), RecoveryError> {
    let failed = |error: io::Error| place.failed(error);
    if !place.disk.exists(place.path).map_err(failed)? {
        return Err(RecoveryError::NotFound { directory: place.path.to_owned() });
    }
    let names = place.disk.list(place.path).map_err(failed)?;
    let numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    let mut headers: Vec<SegmentHeader> = Vec::new();
    for number in numbers.iter().rev() {
        let header = read(place, *number, headers.is_empty())?;
        if let Some(next) = headers.last() {
            check_continues(place, &header, next)?;
        }
        let restart = header.restart;
        headers.push(header);
        if restart {
            break;
        }
    }
    headers.reverse();
    let Some(first) = headers.first() else {
        return Err(damage(place, 0, 1, 0, "the directory holds no segment").into());
    };

    let is_unfinished = |name: &String| is_temporary(name) || name == NEW_VOTE_FILE_NAME;
    let voided = numbers.into_iter().filter(|number| *number < first.number).collect();
    let unfinished = names.into_iter().filter(is_unfinished).collect();
    Ok((headers, Leftovers { unfinished, voided }))
}

fn read(place: &Directory<'_>, number: u64, holds_end: bool) -> Result<SegmentHeader, RecoveryError> {
    let header = match SegmentHeader::read(&*place.open(number)?) {
        Ok(header) => header,
        Err(SegmentHeaderError::Io(error)) => return Err(place.unread(number, holds_end, error)),
        Err(error @ SegmentHeaderError::Version(_)) => {
            return Err(RecoveryError::Header { file: place.file(number), error });
        }
        Err(SegmentHeaderError::Bad(why)) => return Err(damage(place, number, 0, 0, why).into()),
    };
    if header.shard != place.options.shard && place.has_own_vote() {
        return Err(damage(place, number, 0, 0, "its header is another shard's").into());
    }
    if header.shard != place.options.shard {
        let (expected, found) = (place.options.shard, header.shard);
        return Err(RecoveryError::Foreign { directory: place.path.to_owned(), expected, found });
    }
    if header.number != number {
        return Err(damage(place, number, 0, 0, "its header has another segment's number").into());
    }
    Ok(header)
}

/// Checks a segment against its successor, whose header was written when this one was complete.
fn check_continues(
    place: &Directory<'_>,
    header: &SegmentHeader,
    next: &SegmentHeader,
) -> Result<(), RecoveryError> {
    let (before, after) = (&header.checkpoint, &next.checkpoint);
    let broken = |why| Err(damage(place, header.number, before.index + 1, after.index, why).into());
    if header.number + 1 != next.number {
        return broken("the segment after it is missing");
    }
    if before.index > after.index || before.last_lsn > after.last_lsn || before.term > after.term {
        return broken("the segment after it begins before it");
    }
    let length = place.open(header.number)?.len().map_err(|error| place.failed(error))?;
    let complete = header.final_bytes(next, || Ok::<_, RecoveryError>(length))?;
    if length < complete || complete < header.header_bytes() {
        return broken("it is shorter than when it was completed");
    }
    Ok(())
}

fn damage(place: &Directory<'_>, number: u64, index: u64, synced_index: u64, why: &'static str) -> Damage {
    let file = if number == 0 { place.path.to_owned() } else { place.file(number) };
    Damage { file, position: 0, index, synced_index, why }
}
