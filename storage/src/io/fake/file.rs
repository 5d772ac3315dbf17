//! An open file of the simulated disk.

use super::{FakeDisk, State, Synced, contents::Contents, down};
use crate::io::DiskFile;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

pub(super) struct FakeFile {
    pub(super) disk: Arc<FakeDisk>,
    pub(super) file: usize,
    pub(super) life: u64,
    pub(super) writable: bool,
}

impl FakeFile {
    fn contents<'s>(&self, state: &'s mut State) -> io::Result<&'s mut Contents> {
        if state.life != self.life {
            return Err(down());
        }
        state.files.get_mut(self.file).ok_or_else(down)
    }

    fn alive(&self, state: &State) -> io::Result<()> {
        if state.life == self.life { Ok(()) } else { Err(down()) }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.look(|state| self.alive(state))?;
        self.disk.sync(|state, synced| {
            let Some(contents) = state.files.get_mut(self.file) else { return };
            match synced {
                Synced::Done => {
                    state.counters.file_syncs += 1;
                    contents.sync();
                }
                Synced::Forgotten => contents.forget(),
                Synced::Dropped => contents.drop_pages(),
            }
        })
    }
}

impl DiskFile for FakeFile {
    fn write_vectored_at(&self, buffers: &[Bytes], position: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bytes = buffers.concat();
        let write = |state: &mut State, bytes: &[u8]| {
            self.alive(state)?;
            let grown = (position + bytes.len() as u64).saturating_sub(self.contents(state)?.len());
            if grown > state.free_bytes() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.counters.writes += 1;
            state.counters.written_bytes += bytes.len() as u64;
            state.damage.written(self.file, position, bytes.len() as u64);
            self.contents(state)?.write(position, bytes);
            Ok(())
        };
        let half = &bytes[..bytes.len() / 2];
        self.disk.change_or(|state| write(state, &bytes), |state| drop(write(state, half)))
    }

    fn read_at(&self, length: usize, position: u64) -> io::Result<Bytes> {
        self.disk.look(|state| self.alive(state))?;
        let mut state = self.disk.state();
        let bytes = self.contents(&mut state)?.read(position, length);
        state.counters.reads += 1;
        let read = state.counters.reads;
        if let Some(error) = state.read_faults.remove(&read) {
            state.counters.read_errors += 1;
            return Err(error.into());
        }
        if state.damage.is_unreadable(self.file, position, bytes.len() as u64) {
            return Err(io::Error::other("the simulated disk cannot read this"));
        }
        state.counters.read_bytes += bytes.len() as u64;
        Ok(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.change(|state| {
            self.contents(state)?.set_len(length);
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.look(|state| self.alive(state))?;
        Ok(self.contents(&mut self.disk.state())?.len())
    }
}
