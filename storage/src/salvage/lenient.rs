//! Reading a file that cannot be read everywhere.

use crate::io::DiskFile;
use bytes::{Bytes, BytesMut};
use std::io;
use std::sync::Arc;

/// What is read at a time where a larger read failed, in bytes: what disks lose at a time.
const BLOCK_BYTES: usize = 4096;

/// A file in which blocks that the disk cannot read are zeros, so that no checksum passes over them. Where not even
/// its first byte can be read any more, reads fail still: that disk is gone, not damaged.
pub(super) struct Lenient(pub(super) Arc<dyn DiskFile>);

impl DiskFile for Lenient {
    fn read_at(&self, length: usize, position: u64) -> io::Result<Bytes> {
        let error = match self.0.read_at(length, position) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => error,
        };
        let length = (self.0.len()?.saturating_sub(position)).min(length as u64) as usize;
        let mut bytes = BytesMut::zeroed(length);
        let mut any = self.0.read_at(1, 0).is_ok();
        for (n, block) in bytes.chunks_mut(BLOCK_BYTES).enumerate() {
            let read = self.0.read_at(block.len(), position + (n * BLOCK_BYTES) as u64);
            if let Some(read) = read.ok().filter(|read| read.len() == block.len()) {
                block.copy_from_slice(&read);
                any = true;
            }
        }
        if any { Ok(bytes.freeze()) } else { Err(error) }
    }

    fn write_vectored_at(&self, buffers: &[Bytes], position: u64) -> io::Result<()> {
        self.0.write_vectored_at(buffers, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}
