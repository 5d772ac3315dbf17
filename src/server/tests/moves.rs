//! Replicas move in a running cluster.

use std::time::Duration;

use lockstep_protocol::ErrorCode;
use lockstep_storage::io::real::RealDisk;

use super::cluster::{create_topic, leader, produce};
use super::*;
use crate::cluster::{Command, Placement};
use crate::engine::{METADATA_SHARD, ShardId, directory};
use crate::identity::DataDirectory;
use crate::shard::Former;

/// The placement of partition 0, as one broker knows it.
fn placement(server: &Server, topic: &str) -> Placement {
    server.broker().cluster().state().topic(topic).unwrap().partitions[0].clone()
}

async fn submit(server: &Server, command: Command) {
    server.broker().cluster().submit(vec![command], PATIENCE).await.unwrap();
}

/// Waits until every broker knows that the shard is there and nowhere else, and all others have deleted their files.
async fn await_move(servers: &[Server], shard: ShardId, brokers: &[u64]) {
    let arrived = |server: &Server| {
        let state = server.broker().cluster().state();
        let Some(placement) = state.placement(shard) else { return false };
        let has_files = server.config().data.join(directory(shard)).exists();
        let is_host = brokers.contains(&server.config().node);
        placement.moving_to.is_none()
            && placement.replicas == brokers
            && (shard == METADATA_SHARD || has_files == is_host)
    };
    let wait = async {
        while !servers.iter().all(arrived) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        for server in servers {
            let handle = server.broker().cluster().replica(shard);
            let description = match handle {
                Some(handle) => handle.describe().await,
                None => None,
            };
            let state = server.broker().cluster().state();
            eprintln!("broker {}: {:?}, {description:?}", server.config().node, state.placement(shard));
        }
        panic!("shard {shard} did not come to {brokers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_under_writes_and_every_record_is_there_once_and_in_order() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 4).await;
    create_topic(&servers, "t", 1).await;
    let before = placement(&servers[0], "t");
    let spare = (1..=4).find(|broker| !before.replicas.contains(broker)).unwrap();
    // Away from its leader, to the broker that has none, and back again.
    let away: Vec<u64> = before.replicas[1..].iter().copied().chain([spare]).collect();
    let mut acknowledged = Vec::new();
    let mut shown = [0; 4];
    for goal in [away, before.replicas.clone()] {
        submit(&servers[0], Command::MoveReplicas { shard: before.shard, to: goal.clone() }).await;
        let moving = await_move(&servers, before.shard, &goal);
        tokio::pin!(moving);
        loop {
            let value = format!("{}", acknowledged.len());
            let values = [value.as_str()];
            tokio::select! {
                () = &mut moving => break,
                lsn = produce(&servers, "t", &values) => acknowledged.push((lsn, value.clone())),
            }
            for (server, shown) in servers.iter().zip(&mut shown) {
                if let Some(replica) = server.engine().shard(before.shard) {
                    let now = replica.view().high_watermark;
                    assert!(now >= *shown, "broker {} went back to {now}", server.config().node);
                    *shown = now;
                }
            }
        }
    }
    let last_lsn = produce(&servers, "t", &["end"]).await;
    let mut logs = Vec::new();
    for server in servers.iter().filter(|server| before.replicas.contains(&server.config().node)) {
        let mut client = Client::connect(server.addresses().native).await;
        client.fetch("t", last_lsn, 1 << 20).await.unwrap();
        logs.push(client.read_all("t", last_lsn).await);
    }
    assert!(logs.iter().all(|log| *log == logs[0]));
    assert!((1..).zip(&logs[0]).all(|(expected, (lsn, _))| expected == *lsn), "LSNs are dense");
    for record in &acknowledged {
        assert!(logs[0].contains(record), "{record:?} is lost");
    }
    let mut client = Client::connect(servers[spare as usize - 1].addresses().native).await;
    assert_eq!(client.fetch("t", 1, 1).await.unwrap_err().code, ErrorCode::NotLeader);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_broker_gives_all_away_the_metadata_too_and_can_be_removed() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 4).await;
    create_topic(&servers, "t", 6).await;
    let leaves = leader(&servers, "t").await;
    submit(&servers[0], Command::DrainBroker { id: leaves, draining: true }).await;
    let stays = servers.iter().find(|server| server.config().node != leaves).unwrap();
    let wait = async {
        loop {
            match stays.broker().cluster().submit(vec![Command::RemoveBroker { id: leaves }], PATIENCE).await
            {
                Ok(_) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("{:?}", stays.broker().cluster().state());
    }
    let (gone, servers): (Vec<Server>, Vec<Server>) =
        servers.into_iter().partition(|server| server.config().node == leaves);
    drop(gone);
    produce(&servers, "t", &["after"]).await;
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_called_off_leaves_the_replicas_where_they_were() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 4).await;
    create_topic(&servers, "t", 1).await;
    produce(&servers, "t", &["one"]).await;
    let before = placement(&servers[0], "t");
    let spare = (1..=4).find(|broker| !before.replicas.contains(broker)).unwrap();
    // It cannot end: the broker that is to get the replica is down.
    let stopped = servers.remove(spare as usize - 1);
    let config = stopped.config().clone();
    stopped.stop().await;
    let to = vec![spare, before.replicas[0], before.replicas[1]];
    submit(&servers[0], Command::MoveReplicas { shard: before.shard, to }).await;
    produce(&servers, "t", &["two"]).await;
    submit(&servers[0], Command::CancelMove { shard: before.shard }).await;
    await_move(&servers, before.shard, &before.replicas).await;
    servers.push(Server::start(config).await.unwrap());
    await_move(&servers, before.shard, &before.replicas).await;
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_on_when_its_leader_dies_and_a_broker_that_was_down_drops_its_files_when_it_is_back() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 4).await;
    create_topic(&servers, "t", 1).await;
    produce(&servers, "t", &["one"]).await;
    let before = placement(&servers[0], "t");
    let leads = leader(&servers, "t").await;
    let spare = (1..=4).find(|broker| !before.replicas.contains(broker)).unwrap();
    let others: Vec<u64> = before.replicas.iter().copied().filter(|broker| *broker != leads).collect();
    let to: Vec<u64> = others.iter().copied().chain([spare]).collect();
    submit(&servers[0], Command::MoveReplicas { shard: before.shard, to: to.clone() }).await;
    let position = servers.iter().position(|server| server.config().node == leads).unwrap();
    let killed = servers.remove(position);
    let config = killed.config().clone();
    drop(killed);
    await_move(&servers, before.shard, &to).await;
    let last_lsn = produce(&servers, "t", &["two"]).await;
    assert!(last_lsn >= 2);
    assert!(config.data.join(directory(before.shard)).exists());
    let back = async {
        loop {
            match Server::start(config.clone()).await {
                Ok(server) => return server,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    servers.push(tokio::time::timeout(PATIENCE, back).await.unwrap());
    await_move(&servers, before.shard, &to).await;
    for server in servers {
        server.stop().await;
    }
}

/// How fast replicas move where a test wants to see them on their way.
const PACE: u64 = 2 << 20;

/// Four brokers that move replicas slowly, and a topic of one partition with 400 batches of 16 KiB.
async fn slow_movers(root: &Path) -> Vec<Server> {
    let mut servers = Vec::new();
    for (mut config, sockets) in plan(root, 4) {
        config.storage.move_bytes_per_second = PACE;
        format(&config.data, CLUSTER, config.node).unwrap();
        servers.push(Server::start_on(config, sockets).await.unwrap());
    }
    for server in &servers {
        ready(server).await;
    }
    create_topic(&servers, "t", 1).await;
    let value = "x".repeat(16 << 10);
    for _ in 0..400 {
        produce(&servers, "t", &[&value]).await;
    }
    servers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_moves_is_sent_no_faster_than_the_pace() {
    let root = tempfile::tempdir().unwrap();
    let servers = slow_movers(root.path()).await;
    let before = placement(&servers[0], "t");
    let spare = (1..=4).find(|broker| !before.replicas.contains(broker)).unwrap();
    let to: Vec<u64> = before.replicas[..2].iter().copied().chain([spare]).collect();
    let begun = std::time::Instant::now();
    submit(&servers[0], Command::MoveReplicas { shard: before.shard, to: to.clone() }).await;
    await_move(&servers, before.shard, &to).await;
    // All but the first read, and the last hundred entries, which are sent to everybody.
    let paced_bytes = (400 - 100) * (16 << 10) - (1 << 20);
    let at_least = Duration::from_secs_f64(paced_bytes as f64 / PACE as f64);
    assert!(begun.elapsed() >= at_least, "{:?} for what takes {at_least:?}", begun.elapsed());
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_on_when_the_leader_of_the_metadata_dies() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = slow_movers(root.path()).await;
    let before = placement(&servers[0], "t");
    let spare = (1..=4).find(|broker| !before.replicas.contains(broker)).unwrap();
    // Whoever leads the metadata stays: what it dies of is not the end of a replica.
    let leads_metadata = loop {
        let (leader, _) = servers[0].broker().cluster().controller();
        match leader {
            Some(leader) if leader != spare => break leader,
            Some(leader) => {
                let metadata = servers[leader as usize - 1].broker().cluster().metadata();
                let _ = metadata.transfer_leadership(before.replicas[0]).await;
            }
            None => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let leaves = before.replicas.iter().copied().find(|broker| *broker != leads_metadata).unwrap();
    let stay = before.replicas.iter().copied().filter(|broker| *broker != leaves);
    let to: Vec<u64> = stay.chain([spare]).collect();
    submit(&servers[0], Command::MoveReplicas { shard: before.shard, to: to.clone() }).await;
    let files = servers[spare as usize - 1].config().data.join(directory(before.shard));
    while !files.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(placement(&servers[0], "t").moving_to.is_some(), "it is on its way");
    let position = servers.iter().position(|server| server.config().node == leads_metadata).unwrap();
    drop(servers.remove(position));
    await_move(&servers, before.shard, &to).await;
    produce(&servers, "t", &["after"]).await;
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_broker_died_while_it_dropped_a_replica_it_finishes_when_it_is_back() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 4).await;
    create_topic(&servers, "t", 4).await;
    let state = servers[0].broker().cluster().state();
    let placements = state.topic("t").unwrap().partitions.clone();
    // The broker that holds most of them, and is in none of them once it is back.
    let held = |node: u64| placements.iter().filter(|placement| placement.replicas.contains(&node)).count();
    let away = (1..=4).max_by_key(|node| held(*node)).unwrap();
    let moved: Vec<&Placement> =
        placements.iter().filter(|placement| placement.replicas.contains(&away)).collect();
    assert!(moved.len() >= 3, "{placements:?}");
    let stopped = servers.remove(away as usize - 1);
    let config = stopped.config().clone();
    stopped.stop().await;
    let others: Vec<u64> = (1..=4).filter(|node| *node != away).collect();
    for placement in &moved {
        let command = Command::MoveReplicas { shard: placement.shard, to: others.clone() };
        submit(&servers[0], command).await;
    }
    for placement in &moved {
        await_move(&servers, placement.shard, &others).await;
    }
    {
        let directory_of = |shard| config.data.join(directory(shard));
        let data = DataDirectory::open(&config.data, None, 0).unwrap();
        let disk = RealDisk::new(&config.data);
        let [promised, begun, gone] = [0, 1, 2].map(|at: usize| moved[at].shard);
        // What it promised stands there, and not yet that it goes.
        Former { term: 1 }.write(&disk, &directory(promised)).unwrap();
        // Some files are gone.
        Former { term: 1 }.write(&disk, &directory(begun)).unwrap();
        data.record_dropping(begun).unwrap();
        let file = std::fs::read_dir(directory_of(begun)).unwrap().next().unwrap().unwrap();
        std::fs::remove_file(file.path()).unwrap();
        // All are, and it was not struck off the list.
        Former { term: 1 }.write(&disk, &directory(gone)).unwrap();
        data.record_dropping(gone).unwrap();
        std::fs::remove_dir_all(directory_of(gone)).unwrap();
        data.release();
    }
    servers.push(Server::start(config).await.unwrap());
    for placement in &moved {
        await_move(&servers, placement.shard, &others).await;
    }
    let back = servers.last().unwrap();
    let written_off = async {
        while moved.iter().any(|placement| back.directory().shards().contains(&placement.shard)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written_off).await.unwrap();
    assert_eq!(back.broker().cluster().faults(), std::collections::BTreeMap::new());
    assert!(back.directory().dropping().is_empty());
    for server in servers {
        server.stop().await;
    }
}
