//! A replica that lacks what it once acknowledged must not take part again because somebody restarts its broker.
//!
//! So it is marked, durably, beside its directory: `shards/7.faulty` holds the reason. A marked shard is not opened.
//! The way back is through its peers: a new replica in its place.

use std::{io, sync::Arc};

use bytes::Bytes;
use lockstep_storage::io::{Disk, OpenMode};
use tokio::sync::watch;

use super::{SHARDS, ShardId, blocking, directory};
use crate::shard::{Health, ShardView};

fn path(shard: ShardId) -> String {
    format!("{}.faulty", directory(shard))
}

/// Why a shard is marked, if it is.
pub(super) fn reason(disk: &dyn Disk, shard: ShardId) -> io::Result<Option<String>> {
    let path = path(shard);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let file = disk.open(&path, OpenMode::Read)?;
    let text = file.read_at(file.len()? as usize, 0)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

fn mark(disk: &dyn Disk, shard: ShardId, why: &str) -> io::Result<()> {
    let path = path(shard);
    if disk.exists(&path)? {
        return Ok(());
    }
    let file = disk.open(&path, OpenMode::CreateNew)?;
    file.write_vectored_at(&[Bytes::copy_from_slice(why.as_bytes())], 0)?;
    file.sync_all()?;
    disk.sync_dir(SHARDS)
}

/// Removes the mark together with the shard.
pub(super) fn unmark(disk: &dyn Disk, shard: ShardId) -> io::Result<()> {
    let path = path(shard);
    if disk.exists(&path)? { disk.remove_file(&path) } else { Ok(()) }
}

/// Marks a shard as soon as it is found faulty, until it is gone.
pub(super) fn watch(disk: Arc<dyn Disk>, shard: ShardId, mut view: watch::Receiver<ShardView>) {
    tokio::spawn(async move {
        let faulty = view.wait_for(|view| matches!(view.health, Health::Faulty(_))).await;
        let Ok(Health::Faulty(why)) = faulty.map(|view| view.health.clone()) else { return };
        if let Err(error) = blocking(move || mark(&*disk, shard, &why)).await {
            tracing::error!(shard, %error, "could not mark the faulty replica: do not restart this broker");
        }
    });
}

#[cfg(test)]
mod tests {
    use lockstep_storage::io::fake::FakeDisk;

    use super::*;

    #[test]
    fn a_mark_survives_a_power_cut_until_the_shard_is_removed() {
        let disk = FakeDisk::new();
        disk.create_dir("shards").expect("a fresh disk");
        disk.sync_dir("").expect("a healthy disk");
        assert_eq!(reason(&*disk, 7).expect("readable"), None);
        mark(&*disk, 7, "entries are missing").expect("a healthy disk");
        mark(&*disk, 7, "said again").expect("once is enough");
        disk.power_cut();
        disk.restart(1);
        assert_eq!(reason(&*disk, 7).expect("readable").as_deref(), Some("entries are missing"));
        unmark(&*disk, 7).expect("a healthy disk");
        assert_eq!(reason(&*disk, 7).expect("readable"), None);
    }
}
