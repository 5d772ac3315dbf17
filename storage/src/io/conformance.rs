//! One suite that every [`Disk`](super::Disk) sits.

use super::fake::FakeDisk;
use super::real::RealDisk;
use super::{Disk, OpenMode};
use bytes::Bytes;
use std::io::ErrorKind;

fn every_disk(exam: impl Fn(&dyn Disk)) {
    exam(&*FakeDisk::new());
    let directory = tempfile::tempdir().unwrap();
    exam(&RealDisk::new(directory.path()));
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn what_was_written_is_read_back_and_gaps_are_zeros() {
    every_disk(|disk| {
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[bytes("one"), Bytes::new(), bytes("two")], 2).unwrap();
        assert_eq!(&file.read_at(100, 0).unwrap()[..], b"\0\0onetwo");
        assert_eq!(&file.read_at(3, 5).unwrap()[..], b"two");
        assert!(file.read_at(3, 50).unwrap().is_empty());
        assert_eq!(file.len().unwrap(), 8);
        file.set_len(5).unwrap();
        assert_eq!(&file.read_at(100, 0).unwrap()[..], b"\0\0one");
        file.sync_data().unwrap();
        file.sync_all().unwrap();
    });
}

#[test]
fn thousands_of_buffers_go_down_as_one_write() {
    every_disk(|disk| {
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        let buffers: Vec<Bytes> = (0..5000_u32).map(|n| Bytes::copy_from_slice(&n.to_le_bytes())).collect();
        file.write_vectored_at(&buffers, 0).unwrap();
        assert_eq!(file.read_at(20_000, 0).unwrap(), buffers.concat());
    });
}

#[test]
fn names_move_replace_and_go() {
    every_disk(|disk| {
        disk.create_dir("d").unwrap();
        assert_eq!(disk.create_dir("d").unwrap_err().kind(), ErrorKind::AlreadyExists);
        disk.open("d/b", OpenMode::CreateNew).unwrap();
        let a = disk.open("d/a", OpenMode::CreateNew).unwrap();
        a.write_vectored_at(&[bytes("a")], 0).unwrap();
        assert_eq!(disk.list("d").unwrap(), ["a", "b"]);
        disk.rename("d/a", "d/b").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["b"]);
        assert_eq!(disk.open("d/b", OpenMode::Read).unwrap().len().unwrap(), 1);
        disk.rename("d", "e").unwrap();
        assert!(disk.exists("e/b").unwrap() && !disk.exists("d").unwrap());
        assert_eq!(disk.remove_dir("e").unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        disk.remove_file("e/b").unwrap();
        disk.sync_dir("e").unwrap();
        disk.remove_dir("e").unwrap();
        disk.sync_dir("").unwrap();
        assert!(disk.list("").unwrap().is_empty());
    });
}

#[test]
fn what_is_missing_or_in_the_way_is_said_so() {
    every_disk(|disk| {
        let open = |path, mode| disk.open(path, mode).map(|_| ()).unwrap_err().kind();
        assert_eq!(open("f", OpenMode::Read), ErrorKind::NotFound);
        assert_eq!(open("f", OpenMode::ReadWrite), ErrorKind::NotFound);
        disk.open("f", OpenMode::CreateNew).unwrap();
        assert_eq!(open("f", OpenMode::CreateNew), ErrorKind::AlreadyExists);
        assert_eq!(disk.remove_file("g").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.rename("g", "h").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list("nowhere").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(disk.free_bytes().unwrap() > 0);
    });
}

#[test]
fn a_file_opened_for_reading_takes_no_writes() {
    every_disk(|disk| {
        disk.open("f", OpenMode::CreateNew).unwrap();
        let file = disk.open("f", OpenMode::Read).unwrap();
        assert!(file.write_vectored_at(&[bytes("x")], 0).is_err());
        assert!(file.is_empty().unwrap());
    });
}
