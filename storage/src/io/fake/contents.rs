//! One file of the simulated disk: what is read back, what is durable, and what lies between.

use super::Random;
use bytes::Bytes;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;
/// What a file system zeroes to the end of when it cuts a file inside.
const BLOCK_BYTES: usize = 4096;

/// A change no sync covers yet.
#[derive(Debug)]
enum Change {
    Write {
        position: usize,
        bytes: Vec<u8>,
    },
    /// A cut zeroed the rest of its block. The zeros may be durable before the new length is, as seen on ext4.
    Zeros {
        from: usize,
        to: usize,
    },
    Length(usize),
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    volatile: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.volatile.len() as u64
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    pub(super) fn read(&self, position: u64, length: usize) -> Bytes {
        let from = (position as usize).min(self.volatile.len());
        let to = from.saturating_add(length).min(self.volatile.len());
        Bytes::copy_from_slice(&self.volatile[from..to])
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        let position = position as usize;
        put(&mut self.volatile, position, bytes);
        self.unsynced.push(Change::Write { position, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, length: u64) {
        let length = length as usize;
        let block_end = length.next_multiple_of(BLOCK_BYTES).min(self.volatile.len());
        if length < block_end {
            self.unsynced.push(Change::Zeros { from: length, to: block_end });
        }
        self.volatile.resize(length, 0);
        self.unsynced.push(Change::Length(length));
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { position, bytes } => put(&mut self.durable, position, &bytes),
                // The length that follows cuts them off.
                Change::Zeros { .. } => {}
                Change::Length(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// A failed sync: written pages count as clean and are not durable. Lengths stay to be synced: they are
    /// metadata, and a journal that fails does not go on as if nothing were.
    pub(super) fn forget(&mut self) {
        self.unsynced.retain(|change| matches!(change, Change::Length(_)));
    }

    /// The same, and the pages are gone: what is read is what was durable. The length stays, for that is metadata.
    pub(super) fn drop_pages(&mut self) {
        for change in &self.unsynced {
            let Change::Write { position, bytes } = change else { continue };
            for at in *position..(position + bytes.len()).min(self.volatile.len()) {
                self.volatile[at] = self.durable.get(at).copied().unwrap_or(0);
            }
        }
        self.forget();
    }

    pub(super) fn flip(&mut self, position: u64, bit: u8) {
        for image in [&mut self.volatile, &mut self.durable] {
            if let Some(byte) = image.get_mut(position as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Puts other bytes where some were durable, and returns whether that changed anything.
    pub(super) fn corrupt(&mut self, position: usize, bytes: &[u8]) -> bool {
        let place = position..position + bytes.len();
        if self.durable.get(place.clone()).is_none_or(|durable| durable == bytes) {
            return false;
        }
        for image in [&mut self.volatile, &mut self.durable] {
            if let Some(stored) = image.get_mut(place.clone()) {
                stored.copy_from_slice(bytes);
            }
        }
        true
    }

    /// Any sectors of the unsynced writes survive; lengths survive up to some point in their order.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let mut lengths_survive = true;
        for change in self.unsynced.drain(..) {
            match change {
                Change::Write { position, bytes } => {
                    for (from, to) in sectors(position, position + bytes.len()) {
                        if random.coin() {
                            put(&mut self.durable, from, &bytes[from - position..to - position]);
                        }
                    }
                }
                Change::Zeros { from, to } => {
                    for (from, to) in sectors(from, to.min(self.durable.len())) {
                        if random.coin() {
                            self.durable[from..to].fill(0);
                        }
                    }
                }
                Change::Length(length) => {
                    lengths_survive &= random.coin();
                    if lengths_survive {
                        self.durable.resize(length, 0);
                    }
                }
            }
        }
        self.volatile = self.durable.clone();
    }
}

/// The parts of `from..to` that lie in one sector each.
fn sectors(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = move |from: usize| to.min(from + SECTOR_BYTES - from % SECTOR_BYTES);
    std::iter::successors(Some((from, end(from))), move |(_, next)| Some((*next, end(*next))))
        .take_while(move |(from, _)| *from < to)
}

fn put(image: &mut Vec<u8>, position: usize, bytes: &[u8]) {
    let end = position + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[position..end].copy_from_slice(bytes);
}
