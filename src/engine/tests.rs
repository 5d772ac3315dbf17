use std::io::ErrorKind;

use lockstep_storage::io::{FakeDisk, fake::Fault};

use super::*;
use crate::shard::Former;

struct Nobody;

impl PeerSender for Nobody {
    fn send(&self, _: u64, _: ShardId, _: Vec<RaftMessage>) {}

    fn send_repair(&self, _: u64, _: ShardId, _: u64, _: RepairMessage) {}
}

fn options() -> EngineOptions {
    EngineOptions {
        node: 1,
        workers: 1,
        disk_workers: 1,
        tick: Duration::from_millis(10),
        election_ticks: 10,
        heartbeat_ticks: 1,
        segment_bytes: 1 << 20,
        cache_bytes: 1 << 20,
        seed: 7,
        spare_segments_max: 0,
        free_space_reserve_bytes: 0,
        scrub_bytes_per_second: 0,
        move_bytes_per_second: 0,
    }
}

#[tokio::test]
async fn an_open_that_fails_does_not_forget_what_was_shown() {
    let disk = FakeDisk::new();
    let engine = Engine::start(options(), Arc::<FakeDisk>::clone(&disk), Arc::new(Nobody));
    // Node 2, which has the other vote, does not exist: nothing is committed here.
    let opened = || engine.open_shard(7, vec![1, 2], ShardSettings::default());
    engine.inner.shown.insert(7, ShardView { high_watermark: 381, ..ShardView::default() });
    disk.plant(disk.counters().operations + 1, Fault::Error(ErrorKind::StorageFull));
    opened().await.err().expect("the disk is full");
    engine.create_shard(7, vec![1, 2], ShardSettings::default()).await.expect("a fresh disk takes a log");
    assert_eq!(opened().await.expect("it is there now").view().high_watermark, 381);
    assert!(engine.inner.shown.is_empty(), "the replica itself knows it now");
}

/// Tells what it is given to send about repairs.
struct Told(mpsc::UnboundedSender<(u64, ShardId, u64, RepairMessage)>);

impl PeerSender for Told {
    fn send(&self, _: u64, _: ShardId, _: Vec<RaftMessage>) {}

    fn send_repair(&self, to: u64, shard: ShardId, number: u64, message: RepairMessage) {
        let _ = self.0.send((to, shard, number, message));
    }
}

#[tokio::test]
async fn a_node_without_a_replica_tells_what_its_former_ones_have_promised() {
    let (sender, mut told) = mpsc::unbounded_channel();
    let disk = FakeDisk::new();
    disk.create_dir("shards").expect("a healthy disk");
    Former { term: 381 }.write(&*disk, &directory(7)).expect("a healthy disk");
    let engine = Engine::start(options(), disk, Arc::new(Told(sender)));
    for (shard, promised) in [(7, 381), (8, 0)] {
        engine.tell_former(shard, 3, 44);
        let (to, about, number, message) = told.recv().await.expect("it answers");
        assert_eq!((to, about, number), (3, shard, 44));
        let RepairMessage::Standing(standing) = message else { panic!("{message:?}") };
        assert_eq!((standing.term, standing.confirmed), (Some(promised), None));
    }
}

#[tokio::test]
async fn what_was_shown_of_a_deleted_shard_is_forgotten() {
    let engine = Engine::start(options(), FakeDisk::new(), Arc::new(Nobody));
    for shard in [7, 8] {
        engine.inner.shown.insert(shard, ShardView::default());
    }
    engine.forget_deleted(|shard| shard == 7);
    assert!(!engine.inner.shown.contains_key(&7) && engine.inner.shown.contains_key(&8));
}

#[tokio::test]
async fn what_was_removed_at_the_second_attempt_does_not_come_back_after_a_power_cut() {
    // What of the unsynced comes back is drawn: some seed brings it back.
    for (operation, seed) in (1..=8).flat_map(|operation| (0..8).map(move |seed| (operation, seed))) {
        let disk = FakeDisk::new();
        let engine = Engine::start(options(), Arc::<FakeDisk>::clone(&disk), Arc::new(Nobody));
        engine.create_shard(7, vec![1], ShardSettings::default()).await.expect("a fresh disk takes a log");
        disk.plant(disk.counters().operations + operation, Fault::LostSync(ErrorKind::StorageFull));
        if remove_files(&*disk, &directory(7)).is_ok() {
            assert!(operation > 3, "nothing failed");
            return;
        }
        remove_files(&*disk, &directory(7)).expect("a healthy disk");
        disk.power_cut();
        disk.restart(seed);
        assert!(!disk.exists(&directory(7)).expect("a healthy disk"), "failed at operation {operation}");
    }
    panic!("every operation of a removal failed");
}
