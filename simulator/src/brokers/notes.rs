//! Which shards a broker has files of, as its disk says: production's `shards.json`.

use std::collections::BTreeSet;
use std::io;

use lockstep::cluster::hosting::Here;
use lockstep_storage::io::{Disk, OpenMode, replace_file};
use serde::{Deserialize, Serialize};

const PATH: &str = "shards.json";
const TEMPORARY: &str = "shards.json.new";

#[derive(Serialize, Deserialize)]
struct Text {
    shards: BTreeSet<u64>,
    dropping: BTreeSet<u64>,
}

/// What a broker has noted.
///
/// # Errors
/// Whatever the disk says.
pub fn read(disk: &dyn Disk, node: u64) -> io::Result<Here> {
    if !disk.exists(PATH)? {
        return Ok(Here { node, ..Here::default() });
    }
    let file = disk.open(PATH, OpenMode::Read)?;
    let text = file.read_at(file.len()? as usize, 0)?;
    let Text { shards, dropping } = serde_json::from_slice(&text).map_err(io::Error::other)?;
    Ok(Here { node, shards, dropping })
}

/// Notes it, durably.
///
/// # Errors
/// Whatever the disk says; it may be noted or not then.
pub fn write(disk: &dyn Disk, here: &Here) -> io::Result<()> {
    let text = Text { shards: here.shards.clone(), dropping: here.dropping.clone() };
    let text = serde_json::to_vec(&text).map_err(io::Error::other)?;
    replace_file(disk, TEMPORARY, PATH, text.into())
}
