//! Replaying the segments from the base on, and judging where they end.

use super::{Recovery, Replay};
use crate::checkpoint::Checkpoint;
use crate::frame::{FrameType, chain_after};
use crate::index::Segment;
use crate::io::DiskFile;
use crate::log::{Damage, RecoveryError, Tip};
use crate::scan::{Cursor, Frame, ScanError, highest_synced_beyond};
use crate::segment::SegmentHeader;
use lockstep_planted::{self as planted, Bug};
use std::sync::Arc;

/// How a segment's frames ended.
struct Ending {
    /// Behind the last frame that counts.
    end: u64,
    /// From where frames beyond it are looked for.
    beyond: u64,
    /// The highest index its frames say was synced.
    synced_index: u64,
    /// The last frame that counts is a seal, or there is none.
    sealed: bool,
    /// Where the seal begins that is the last frame that counts.
    seal: Option<u64>,
    /// What stopped the scan short of the end of the file.
    stopped: Option<&'static str>,
}

impl Recovery<'_> {
    /// Shows `visit` every entry after the base, and takes each into the log.
    pub(super) fn replay(&mut self, visit: &mut dyn FnMut(Replay<'_>)) -> Result<(), RecoveryError> {
        let headers = std::mem::take(&mut self.headers);
        for (header, next) in headers.iter().zip(headers.iter().skip(1)) {
            let file = self.place.open(header.number)?;
            let end = self.place.final_bytes(header, next)?;
            let ending = self.scan(&file, header, end, Some(&next.checkpoint), visit)?;
            // A damaged footer alone is no loss: it is derived.
            if self.log.tip != Tip::of(&next.checkpoint) {
                let why = ending.stopped.unwrap_or("its entries do not reach the next segment's checkpoint");
                return Err(self.damage(header, ending.end, next.checkpoint.index, why));
            }
            let mut view = self.log.shared.view();
            view.index.set_end(end);
            view.index.roll(Segment::of(next.clone()));
        }
        let Some(last) = headers.last() else { return Ok(()) };
        self.replay_last(last, visit)
    }

    fn replay_last(
        &mut self,
        header: &SegmentHeader,
        visit: &mut dyn FnMut(Replay<'_>),
    ) -> Result<(), RecoveryError> {
        let place = self.place;
        let file = place.open(header.number)?;
        let length = file.len().map_err(|error| place.failed(error))?;
        let ending = self.scan(&file, header, length, None, visit)?;
        let beyond = highest_synced_beyond(&*file, header, ending.beyond, length);
        let beyond = beyond.map_err(|error| place.unread(header.number, true, error))?;
        let mut proven = ending.synced_index.max(beyond.unwrap_or(0)).max(place.options.synced_index);
        if planted::is_active(Bug::TakeCommitForSynced) {
            proven = proven.max(self.log.commit);
        }
        if proven > self.log.tip.index && !planted::is_active(Bug::CutDamageBelowSyncMark) {
            let why = ending.stopped.unwrap_or("the file ends too early");
            return Err(self.damage(header, ending.end, proven, why));
        }
        self.log.shared.view().index.set_end(ending.end);
        self.report.proven_synced_index = proven;
        // Bytes behind the seal may be the torn beginning of a later frame. Written over, they could complete what a
        // recovery has shown to be gone: they are cut, whatever they are, and the log goes on in a new segment.
        self.report.clean = ending.sealed && ending.end == length;
        self.seal = ending.seal.filter(|_| self.report.clean && proven == self.log.tip.index);
        Ok(())
    }

    /// Takes the frames of one segment into the log, to `end` or to the first that does not belong. Where a segment stands
    /// behind it, nothing behind the entry before that one's first needs to be readable.
    fn scan(
        &mut self,
        file: &Arc<dyn DiskFile>,
        header: &SegmentHeader,
        end: u64,
        successor: Option<&Checkpoint>,
        visit: &mut dyn FnMut(Replay<'_>),
    ) -> Result<Ending, RecoveryError> {
        let mut cursor = Cursor::new(file.clone(), header.nonce, header.header_bytes(), end);
        let synced_index = header.checkpoint.index;
        let mut ending = Ending {
            end: cursor.position(),
            beyond: cursor.position(),
            synced_index,
            sealed: true,
            seal: None,
            stopped: None,
        };
        loop {
            let frame = match cursor.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(ending),
                Err(ScanError::Bad { why, .. }) => return Ok(Ending { stopped: Some(why), ..ending }),
                Err(ScanError::Unknown { position, error }) => {
                    return Err(self.place.unknown(header.number, position, error));
                }
                Err(ScanError::Io(_)) if successor.is_some_and(|next| Tip::of(next) == self.log.tip) => {
                    return Ok(Ending { stopped: Some("it cannot be read"), ..ending });
                }
                Err(ScanError::Io(error)) => {
                    return Err(self.place.unread(header.number, successor.is_none(), error));
                }
            };
            // A whole header speaks the truth about syncs, wherever it stands in this segment.
            ending.synced_index = ending.synced_index.max(frame.header.synced_index);
            if !self.continues(&frame) {
                return Ok(Ending { stopped: Some("a frame does not continue the log"), ..ending });
            }
            ending.beyond = frame.end();
            match frame.header.frame_type {
                FrameType::Footer => return Ok(Ending { sealed: false, ..ending }),
                FrameType::Seal => self.note_seal(&frame),
                FrameType::Entry => self.take(&frame, visit),
            }
            ending.end = frame.end();
            ending.sealed = frame.header.frame_type == FrameType::Seal;
            ending.seal = ending.sealed.then_some(frame.position);
        }
    }

    fn continues(&self, frame: &Frame) -> bool {
        let tip = self.log.tip;
        let header = &frame.header;
        match header.frame_type {
            FrameType::Seal | FrameType::Footer => header.index == tip.index && header.chain == tip.chain,
            FrameType::Entry => {
                header.index == tip.index + 1
                    && header.term >= tip.term
                    && frame.envelope.is_none_or(|envelope| envelope.first_lsn == tip.last_lsn + 1)
                    && (header.chain == chain_after(tip.chain, &frame.entry)
                        || planted::is_active(Bug::AcceptFormerLife))
            }
        }
    }

    fn note_seal(&mut self, frame: &Frame) {
        if let Ok(commit) = <[u8; 8]>::try_from(&frame.entry.body[..]) {
            self.log.commit = self.log.commit.max(u64::from_le_bytes(commit));
        }
    }

    fn take(&mut self, frame: &Frame, visit: &mut dyn FnMut(Replay<'_>)) {
        visit(Replay::Entry(&frame.entry));
        self.report.replayed_entries += 1;
        self.log.admit(frame.entry.clone(), frame.envelope, frame.position, frame.header.chain);
        let (limit, tip) = (self.log.options.cache.resting_bytes(), self.log.tip.index);
        self.log.keep_cached(limit, tip);
    }

    fn damage(
        &self,
        header: &SegmentHeader,
        position: u64,
        synced_index: u64,
        why: &'static str,
    ) -> RecoveryError {
        let (file, index) = (self.place.file(header.number), self.log.tip.index + 1);
        RecoveryError::Faulty(Damage { file, position, index, synced_index, why })
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::{FRAME_HEADER_BYTES, Place, chain_after, entry_header};
    use crate::io::{Disk, DiskFile, FakeDisk, OpenMode};
    use crate::{
        Checkpoint, ENVELOPE_BYTES, Entry, EntryError, EntryKind, EnvelopeError, Log, LogOptions,
        RecoveryError,
    };
    use bytes::Bytes;
    use std::sync::Arc;

    const FIRST_FRAME: u64 = 4096;

    /// A log of one frame whose checksums all pass, with this envelope.
    fn log_of(envelope: Vec<u8>) -> (Arc<FakeDisk>, Arc<dyn DiskFile>) {
        let disk = FakeDisk::new();
        let place = Place { nonce: [3; 16], position: FIRST_FRAME };
        Log::create(disk.clone(), "log", &LogOptions::default(), Checkpoint::default(), place.nonce).unwrap();
        let file = disk.open("log/00000000000000000001.segment", OpenMode::ReadWrite).unwrap();
        let (envelope, body) = (Bytes::from(envelope), Bytes::from_static(b"short"));
        let entry = Entry { index: 1, term: 1, kind: EntryKind::Normal, envelope, body };
        let header = entry_header(&entry, place, 0, chain_after(0, &entry));
        file.write_vectored_at(&[header, entry.envelope, entry.body], FIRST_FRAME).unwrap();
        (disk, file)
    }

    #[test]
    fn a_whole_frame_of_an_unknown_version_is_never_cut_off_as_a_tear() {
        let mut envelope = vec![0; ENVELOPE_BYTES];
        envelope[0] = 2;
        let (disk, file) = log_of(envelope);
        let before = file.read_at(1 << 20, 0).unwrap();
        for _ in 0..2 {
            let recovered = Log::recover(disk.clone(), "log", LogOptions::default(), &mut |_| ());
            let Err(RecoveryError::UnknownEntry { position, error, .. }) = recovered else {
                panic!("it must be refused")
            };
            assert_eq!((position, error), (FIRST_FRAME, EntryError::Envelope(EnvelopeError::Version(2))));
            assert_eq!(file.read_at(1 << 20, 0).unwrap(), before);
        }
        // One bit of its header, and it is a tear like any other.
        disk.flip_bit("log/00000000000000000001.segment", FIRST_FRAME + FRAME_HEADER_BYTES as u64, 0);
        let recovered = Log::recover(disk, "log", LogOptions::default(), &mut |_| ()).unwrap();
        assert_eq!(recovered.log.last_index(), 0);
    }
}
