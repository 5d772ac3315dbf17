//! Reading a file that cannot be read everywhere.

use crate::io::{Disk, DiskFile, OpenMode};
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
        let mut done = 0;
        while done < length {
            let at = position + done as u64;
            let block = (BLOCK_BYTES - at as usize % BLOCK_BYTES).min(length - done);
            if let Some(read) = self.0.read_at(block, at).ok().filter(|read| read.len() == block) {
                bytes[done..done + block].copy_from_slice(&read);
                any = true;
            }
            done += block;
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

/// A disk whose files read so: under the mark of a faulty replica that has lost its tail, what cannot be read is as good
/// as torn, for a leader gives it back. Nowhere else: an entry that could be read the next time may have been acknowledged.
pub struct LenientDisk(pub Arc<dyn Disk>);

impl Disk for LenientDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Lenient(self.0.open(path, mode)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        self.0.sync_dir(directory)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::FakeDisk;
    use std::sync::Mutex;

    /// A file of which some blocks cannot be read.
    struct Rotten {
        file: Arc<dyn DiskFile>,
        blocks: Mutex<Vec<u64>>,
    }

    impl DiskFile for Rotten {
        fn read_at(&self, length: usize, position: u64) -> io::Result<Bytes> {
            let (first, last) = (position / 4096, (position + length.max(1) as u64 - 1) / 4096);
            match self.blocks.lock().unwrap().iter().any(|block| (first..=last).contains(block)) {
                true => Err(io::Error::other("EIO")),
                false => self.file.read_at(length, position),
            }
        }

        fn write_vectored_at(&self, buffers: &[Bytes], position: u64) -> io::Result<()> {
            self.file.write_vectored_at(buffers, position)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.file.sync_data()
        }

        fn sync_all(&self) -> io::Result<()> {
            self.file.sync_all()
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            self.file.set_len(length)
        }

        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
    }

    #[test]
    fn blocks_that_cannot_be_read_are_zeros_and_a_disk_that_is_gone_is_an_error() {
        let file = FakeDisk::new().open("f", OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[Bytes::from(vec![7; 20_000])], 0).unwrap();
        let rotten = Arc::new(Rotten { file, blocks: Mutex::new(vec![2, 4]) });
        let lenient = Lenient(rotten.clone());
        for (position, length) in
            [(0, 30_000), (4096, 9000), (8192, 4096), (8192, 100), (100, 19_000), (12_000, 500)]
        {
            let read = lenient.read_at(length, position).unwrap();
            assert_eq!(read.len() as u64, (position + length as u64).min(20_000) - position);
            for (byte, at) in read.iter().zip(position..) {
                let readable = !(8192..12_288).contains(&at) && at < 16_384;
                assert_eq!(*byte, if readable { 7 } else { 0 }, "byte {at}");
            }
        }
        *rotten.blocks.lock().unwrap() = (0..5).collect();
        assert!(lenient.read_at(30_000, 0).is_err());
    }
}
