//! Logs that are gone, that failed, and repairs that are cut off.

use lockstep::replica;
use lockstep_storage::io::{Disk, OpenMode};

use super::*;
use crate::cluster::ELECTION_TICKS;

/// The last two records are zeros. Nothing behind them is left that could say that they had been there: to whoever knows the
/// files alone it is a tear.
fn lose_the_end(cluster: &Cluster, node: u64) {
    let (path, position) = find(cluster, node, &value(RECORDS - 1));
    let file = cluster.disk(node).open(&path, OpenMode::Read).expect("it is there");
    let length = file.len().expect("a healthy disk");
    let zeros = vec![0; (length - position) as usize];
    cluster.disk(node).corrupt(&path, position, &zeros).expect("it is there");
}

#[test]
fn what_was_lost_at_the_end_of_a_running_log_is_remembered_through_a_restart() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.tick_all();
    lose_the_end(&cluster, 3);
    cluster.isolate(3);
    cluster.step(3, replica::Input::Damaged("a reader found it".into()));
    cluster.settle();
    cluster.crash(3, 1);
    cluster.start(3);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(matches!(cluster.health(3), Health::Faulty(_)), "it would vote without what it acknowledged");
    cluster.heal();
    wait_until_well(&mut cluster, 3);
    assert_all_records(&mut cluster);
}

#[test]
fn a_log_whose_newest_segment_is_gone_comes_back_whole() {
    let mut cluster = stopped_cluster();
    let newest = cluster.segments(3).pop().expect("there are segments");
    cluster.disk(3).remove_file(&newest).expect("a healthy disk");
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn a_replica_whose_directory_is_gone_is_rebuilt_from_its_peers() {
    let mut cluster = stopped_cluster();
    cluster.delete_directory(3);
    heal(&mut cluster);
    assert_all_records(&mut cluster);
}

#[test]
fn a_power_cut_at_any_moment_of_a_repair_leaves_a_replica_that_is_repaired_later() {
    let mut cuts = 0;
    for after in 1.. {
        let mut cluster = stopped_cluster();
        rot(&cluster, 3, RECORDS - 1);
        cluster.start(1);
        cluster.start(2);
        cluster.wait_for_leader();
        cluster.cut_power_after(3, after);
        let started = cluster.try_start(3).is_ok();
        for _ in 0..100 {
            if started && !cluster.disk(3).is_down() {
                cluster.tick_all();
            }
        }
        let cut = cluster.disk(3).is_down();
        cuts += u64::from(cut);
        cluster.crash(3, after);
        cluster.start(3);
        wait_until_well(&mut cluster, 3);
        assert_all_records(&mut cluster);
        if !cut {
            break;
        }
    }
    assert!(cuts > 5, "only {cuts} cuts: was anything written?");
}

#[test]
fn a_log_that_failed_is_opened_again_and_the_high_watermark_never_goes_back() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.produce(1, &["one"]);
    cluster.tick_all();
    let before = cluster.describe(3).view.high_watermark;
    cluster.fail_next_sync(3);
    cluster.produce(1, &["two"]);
    assert!(matches!(cluster.health(3), Health::Failed(_)), "{:?}", cluster.health(3));
    assert!(cluster.describe(3).view.high_watermark >= before);
    wait_until_well(&mut cluster, 3);
    cluster.produce(1, &["three"]);
    cluster.tick_all();
    cluster.assert_everywhere(&["one", "two", "three"]);
}

#[test]
fn a_log_that_failed_is_opened_again_with_all_that_it_had_synced_or_repaired() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for value in values() {
        cluster.produce(1, &[&value]);
    }
    cluster.tick_all();
    lose_the_end(&cluster, 3);
    cluster.fail_next_sync(3);
    cluster.produce(1, &["one more"]);
    cluster.isolate(3);
    for _ in 0..20 * ELECTION_TICKS {
        cluster.tick_all();
    }
    assert!(is_faulty(&cluster, 3), "it would vote without what it acknowledged: {:?}", cluster.health(3));
    cluster.heal();
    wait_until_well(&mut cluster, 3);
    cluster.tick_all();
    let expected: Vec<String> = values().into_iter().chain(["one more".to_owned()]).collect();
    cluster.assert_everywhere(&expected.iter().map(String::as_str).collect::<Vec<_>>());
}
