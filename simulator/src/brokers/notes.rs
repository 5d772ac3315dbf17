//! What a broker has written down, as its disk says: which shards it has files of, and which brokers there are. Production's
//! `shards.json` and `brokers.json`.

use std::collections::BTreeSet;
use std::io;

use lockstep::cluster::hosting::Here;
use lockstep_storage::io::{Disk, OpenMode, replace_file};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const SHARDS: &str = "shards.json";
const BROKERS: &str = "brokers.json";

#[derive(Default, Serialize, Deserialize)]
struct Shards {
    shards: BTreeSet<u64>,
    dropping: BTreeSet<u64>,
}

/// The shards that a broker has noted.
///
/// # Errors
/// Whatever the disk says.
pub fn read(disk: &dyn Disk, node: u64) -> io::Result<Here> {
    let Shards { shards, dropping } = read_file(disk, SHARDS)?;
    Ok(Here { node, shards, dropping })
}

/// Notes them, durably.
///
/// # Errors
/// Whatever the disk says; it may be noted or not then.
pub fn write(disk: &dyn Disk, here: &Here) -> io::Result<()> {
    write_file(disk, SHARDS, &Shards { shards: here.shards.clone(), dropping: here.dropping.clone() })
}

/// The brokers that it has noted.
///
/// # Errors
/// Whatever the disk says.
pub fn read_brokers(disk: &dyn Disk) -> io::Result<BTreeSet<u64>> {
    read_file(disk, BROKERS)
}

/// Notes them, durably.
///
/// # Errors
/// Whatever the disk says; they may be noted or not then.
pub fn write_brokers(disk: &dyn Disk, brokers: &BTreeSet<u64>) -> io::Result<()> {
    write_file(disk, BROKERS, brokers)
}

fn read_file<T: Default + DeserializeOwned>(disk: &dyn Disk, path: &str) -> io::Result<T> {
    if !disk.exists(path)? {
        return Ok(T::default());
    }
    let file = disk.open(path, OpenMode::Read)?;
    let text = file.read_at(file.len()? as usize, 0)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

fn write_file<T: Serialize>(disk: &dyn Disk, path: &str, content: &T) -> io::Result<()> {
    let text = serde_json::to_vec(content).map_err(io::Error::other)?;
    replace_file(disk, &format!("{path}.new"), path, text.into())
}
