//! Three brokers together.

use lockstep_protocol::ErrorCode;
use lockstep_protocol::native::{ListTopicsRequest, MetadataRequest, TailRequest};

use super::*;
use crate::cluster::{Command, MetadataError, Refusal};

/// Creates a topic at whichever broker leads the metadata.
pub(super) async fn create_topic(servers: &[Server], name: &str, partitions: u32) {
    let attempt = async {
        loop {
            for server in servers {
                let mut client = Client::connect(server.addresses().native).await;
                match client.create_topic(name, partitions).await {
                    Ok(_) => return,
                    Err(error) => assert!(error.code.retryable(), "{error}"),
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.unwrap();
}

/// The broker that leads partition 0.
pub(super) async fn leader(servers: &[Server], topic: &str) -> u64 {
    let search = async {
        loop {
            for server in servers {
                let mut client = Client::connect(server.addresses().native).await;
                let request = MetadataRequest { topics: Some(vec![topic.into()]), create_missing: false };
                let answer = client.call(&request).await.unwrap();
                if let Ok(found) = &answer.topics[0]
                    && let Some(leader) = found.partitions[0].leader
                    && servers.iter().any(|server| server.config().node == leader)
                {
                    return leader;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap()
}

/// Produces at whichever broker leads; a retry repeats the batch, so `values` may stand in the log twice.
pub(super) async fn produce(servers: &[Server], topic: &str, values: &[&str]) -> u64 {
    let attempt = async {
        loop {
            let leads = leader(servers, topic).await;
            let Some(server) = servers.iter().find(|server| server.config().node == leads) else { continue };
            let mut client = Client::connect(server.addresses().native).await;
            match client.produce(topic, batch(values)).await {
                Ok(produced) => return produced.last_lsn,
                Err(error) => assert!(error.code.retryable(), "{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_serves_the_same_bytes_and_only_the_leader_takes_more() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    create_topic(&servers, "t", 1).await;
    produce(&servers, "t", &["a", "b"]).await;
    let last_lsn = produce(&servers, "t", &["c"]).await;
    let leads = leader(&servers, "t").await;
    let mut copies = Vec::new();
    for server in &servers {
        let mut client = Client::connect(server.addresses().native).await;
        client.fetch("t", last_lsn, 1 << 20).await.unwrap();
        let (fetched, payload) = client.fetch("t", 1, 1 << 20).await.unwrap();
        assert_eq!((fetched.log_start, fetched.high_watermark), (1, last_lsn));
        copies.push(payload);
    }
    assert!(!copies[0].is_empty());
    assert!(copies.iter().all(|copy| *copy == copies[0]));
    for server in servers.iter().filter(|server| server.config().node != leads) {
        let mut client = Client::connect(server.addresses().native).await;
        let refused = client.produce("t", batch(&["x"])).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotLeader);
        let hint = refused.hint.unwrap();
        assert_eq!(hint.node, leads);
        assert_eq!(hint.address, servers[leads as usize - 1].addresses().native.to_string());
        let tail = TailRequest { topic: "t".into(), partition: 0, linearizable: true };
        assert_eq!(client.call(&tail).await.unwrap_err().code, ErrorCode::NotLeader);
    }
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_spread_over_the_brokers() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    create_topic(&servers, "wide", 6).await;
    let state = servers[0].broker().cluster().state();
    let preferred: Vec<u64> =
        state.topic("wide").unwrap().partitions.iter().map(|placement| placement.replicas[0]).collect();
    for node in 1..=3 {
        assert_eq!(preferred.iter().filter(|first| **first == node).count(), 2);
    }
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_leader_that_stops_and_returns() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 3).await;
    create_topic(&servers, "t", 1).await;
    produce(&servers, "t", &["before"]).await;
    let leads = leader(&servers, "t").await;
    let position = servers.iter().position(|server| server.config().node == leads).unwrap();
    let stopped = servers.remove(position);
    let config = stopped.config().clone();
    stopped.stop().await;

    let last_lsn = produce(&servers, "t", &["after"]).await;
    servers.push(Server::start(config).await.unwrap());
    let mut logs = Vec::new();
    for server in &servers {
        ready(server).await;
        logs.push(Client::connect(server.addresses().native).await.read_all("t", last_lsn).await);
    }
    assert_eq!(logs[0].first().unwrap(), &(1, "before".to_owned()));
    assert_eq!(logs[0].last().unwrap(), &(last_lsn, "after".to_owned()));
    assert!(logs.iter().all(|log| *log == logs[0]));
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(super) async fn producer_ids_are_never_given_out_twice() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        for server in &servers {
            if let Ok(id) = server.broker().new_producer_id().await {
                ids.push(id);
            }
        }
    }
    assert!(ids.len() >= 3, "nobody gives out ids");
    let given = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), given);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_alone_after_a_full_restart_never_says_that_a_topic_does_not_exist() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    create_topic(&servers, "t", 1).await;
    let configs: Vec<Config> = servers.iter().map(|server| server.config().clone()).collect();
    for server in servers {
        server.stop().await;
    }
    let mut configs = configs.into_iter();
    let mut servers = vec![Server::start(configs.next().unwrap()).await.unwrap()];
    let mut client = Client::connect(servers[0].addresses().native).await;
    // Without a majority nobody can tell which topics there are.
    let names = Some(vec!["t".to_owned(), "other".to_owned()]);
    let request = MetadataRequest { topics: names, create_missing: false };
    let answer = client.call(&request).await.unwrap();
    assert_eq!(answer.topics[1].as_ref().unwrap_err().code, ErrorCode::NotReady);
    if let Err(error) = &answer.topics[0] {
        assert_eq!(error.code, ErrorCode::NotReady);
    }
    let all = MetadataRequest { topics: None, create_missing: false };
    assert_eq!(client.call(&all).await.unwrap_err().code, ErrorCode::NotReady);
    assert_eq!(client.call(&ListTopicsRequest {}).await.unwrap_err().code, ErrorCode::NotReady);
    assert_eq!(client.produce("other", batch(&["x"])).await.unwrap_err().code, ErrorCode::NotReady);
    assert_eq!(client.fetch("other", 1, 1).await.unwrap_err().code, ErrorCode::NotReady);

    for config in configs {
        servers.push(Server::start(config).await.unwrap());
    }
    for server in &servers {
        ready(server).await;
    }
    let answer = client.call(&request).await.unwrap();
    assert!(answer.topics[0].is_ok());
    assert_eq!(answer.topics[1].as_ref().unwrap_err().code, ErrorCode::UnknownTopic);
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_written_or_refused_alike_whichever_broker_is_asked() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let mut before = servers[0].broker().cluster().state().next_producer();
    for server in &servers {
        let cluster = server.broker().cluster();
        let reserve = Command::ReserveProducers { count: 7 };
        let state = cluster.submit(vec![reserve.clone(), reserve], PATIENCE).await.unwrap();
        assert_eq!(state.next_producer(), before + 14);
        before = state.next_producer();
        let unknown = Command::CancelMove { shard: 99 };
        match cluster.submit(vec![Command::ReserveProducers { count: 1 }, unknown], PATIENCE).await {
            Err(MetadataError::Refused(refusal)) => assert_eq!(refusal, Refusal::UnknownShard(99)),
            other => panic!("{other:?}"),
        }
    }
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_no_majority_can_write_is_not_waited_for_beyond_its_time() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 3).await;
    let last = servers.pop().unwrap();
    for server in servers {
        server.stop().await;
    }
    let reserve = Command::ReserveProducers { count: 7 };
    match last.broker().cluster().submit(vec![reserve], Duration::from_millis(300)).await {
        Err(MetadataError::TimedOut | MetadataError::OutcomeUnknown) => {}
        other => panic!("{other:?}"),
    }
    last.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_is_founded_and_its_brokers_register_themselves() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let registered =
        |state: &crate::cluster::MetadataState| (state.members().len() == 3).then(|| state.clone());
    for server in &servers {
        let known = server.broker().cluster().wait_for(registered);
        let state = tokio::time::timeout(PATIENCE, known).await.unwrap().unwrap();
        assert_eq!(state.founders(), [1, 2, 3]);
        let (own, _) = state.member(server.config().node).unwrap();
        assert_eq!(own.directory, server.directory().identity().directory);
        assert_eq!(own.peer, server.addresses().peer.to_string());
    }
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_elsewhere_is_found_there() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 3).await;
    let mut last = Server::config(&servers[2]).clone();
    let registered = |state: &crate::cluster::MetadataState| (state.members().len() == 3).then_some(());
    tokio::time::timeout(PATIENCE, servers[0].broker().cluster().wait_for(registered)).await.unwrap();
    servers.pop().unwrap().stop().await;
    last.listen = quick_config(3, root.path()).listen;
    // Its own list knows nothing of the new addresses, and no other broker's does.
    let sockets = Listeners::bind(&last).unwrap();
    let addresses = sockets.addresses().unwrap();
    last.advertise.native = Some(addresses.native.to_string());
    last.advertise.peer = Some(addresses.peer.to_string());
    last.advertise.http = Some(addresses.http.to_string());
    let moved = Server::start_on(last, sockets).await.unwrap();
    let peer = addresses.peer.to_string();
    for server in servers.iter().chain([&moved]) {
        let moved = |state: &crate::cluster::MetadataState| {
            state.member(3).is_some_and(|(member, _)| member.peer == peer).then_some(())
        };
        tokio::time::timeout(PATIENCE, server.broker().cluster().wait_for(moved)).await.unwrap();
    }
    ready(&moved).await;
    for server in servers.into_iter().chain([moved]) {
        server.stop().await;
    }
}
