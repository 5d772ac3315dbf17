//! A segment written anew beside the one it is to replace.
//!
//! Invariants: what is written is a whole segment, whose frames continue its checkpoint without a gap. It is synced
//! before it gets its name, so each of its frames may say that all before it is synced.

use crate::entry::{Entry, EntryKind};
use crate::envelope::Envelope;
use crate::frame::{FrameHeader, FrameType, Place, assemble, chain_after, entry_header};
use crate::group::segment_path;
use crate::index::{Noted, Point, SegmentIndex};
use crate::io::{Disk, DiskFile, OpenMode};
use crate::log::Tip;
use crate::segment::{SegmentHeader, temporary_name};
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use std::io;
use std::sync::Arc;

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

pub(super) struct Rewrite {
    disk: Arc<dyn Disk>,
    directory: String,
    temporary: String,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    interval_bytes: u64,
    tip: Tip,
    index: SegmentIndex,
    /// What waits to be written, and where it goes.
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    position: u64,
}

impl Rewrite {
    /// Begins with the header. What an attempt of the past has left is removed.
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        directory: &str,
        header: SegmentHeader,
        interval_bytes: u64,
    ) -> io::Result<Self> {
        let temporary = format!("{directory}/{}", temporary_name(header.number));
        if disk.exists(&temporary)? {
            disk.remove_file(&temporary)?;
        }
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        let encoded = header.encode();
        Ok(Self {
            directory: directory.to_owned(),
            temporary,
            file,
            interval_bytes,
            tip: Tip::of(&header.checkpoint),
            index: SegmentIndex::default(),
            waiting_bytes: encoded.len(),
            waiting: vec![encoded],
            position: 0,
            header,
            disk,
        })
    }

    /// The last entry so far.
    pub(super) fn tip(&self) -> Tip {
        self.tip
    }

    /// Appends an entry that carries its checksums; `false` if it does not continue what stands there.
    pub(super) fn append(&mut self, entry: &Entry, envelope: Option<Envelope>) -> io::Result<bool> {
        let first_lsn = self.tip.last_lsn + 1;
        let continues = entry.index == self.tip.index + 1
            && entry.term >= self.tip.term
            && envelope.is_none_or(|envelope| envelope.first_lsn == first_lsn);
        if !continues {
            return Ok(false);
        }
        let chain = chain_after(self.tip.chain, entry);
        let place = self.place();
        let records = envelope.map_or(0, |envelope| u64::from(envelope.record_count));
        let point =
            Point { first_lsn, index: entry.index, position: place.position, max_before_ms: i64::MIN };
        let timed = envelope.filter(|envelope| envelope.record_count > 0);
        let noted = Noted {
            point,
            term: entry.term,
            max_timestamp_ms: timed.map(|envelope| envelope.max_timestamp_ms),
        };
        self.index.note(&noted, self.interval_bytes);
        let header = entry_header(entry, place, self.tip.index, chain);
        self.tip = Tip { index: entry.index, term: entry.term, last_lsn: self.tip.last_lsn + records, chain };
        self.queue([header, entry.envelope.clone(), entry.body.clone()])?;
        Ok(true)
    }

    /// Ends the segment, as complete or as the log's last, and puts it in the place of the old one. Durable.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let place = self.place();
        let (frame_type, body) = if self.header.repaired {
            (FrameType::Footer, self.index.encode(place.position))
        } else {
            let commit = self.header.checkpoint.commit.min(self.tip.index);
            (FrameType::Seal, Bytes::copy_from_slice(&commit.to_le_bytes()))
        };
        let header = FrameHeader {
            frame_type,
            kind: EntryKind::Normal,
            body_length: body.len() as u32,
            envelope_length: 0,
            term: self.tip.term,
            index: self.tip.index,
            synced_index: self.tip.index,
            chain: self.tip.chain,
        };
        self.queue([assemble(header, place, &body), Bytes::new(), Bytes::new()])?;
        self.write()?;
        if !planted::is_active(Bug::ReplaceSegmentBeforeSync) {
            self.file.sync_all()?;
        }
        self.disk.rename(&self.temporary, &segment_path(&self.directory, self.header.number))?;
        self.disk.sync_dir(&self.directory)
    }

    fn place(&self) -> Place {
        Place { nonce: self.header.nonce, position: self.position + self.waiting_bytes as u64 }
    }

    fn queue(&mut self, parts: [Bytes; 3]) -> io::Result<()> {
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            self.waiting_bytes += part.len();
            self.waiting.push(part);
        }
        if self.waiting_bytes >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_vectored_at(&self.waiting, self.position)?;
        self.position += self.waiting_bytes as u64;
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }
}
