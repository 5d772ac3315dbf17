//! Brokers that join a running cluster, and leave it.

use lockstep_protocol::ErrorCode;
use lockstep_protocol::native::{ListBrokersRequest, RemoveBrokerRequest};

use super::*;
use crate::server::ServerError;

/// Settings for a broker that joins through these.
fn joining_config(servers: &[Server], data: &Path) -> Config {
    let join = servers.iter().map(|server| server.addresses().native.to_string()).collect();
    Config { join, rack: Some("b".into()), ..quick_config(0, data) }
}

/// The broker that leads the metadata.
async fn controller(servers: &[Server]) -> &Server {
    let search = async {
        loop {
            for server in servers {
                if server.broker().cluster().metadata().view().is_leader {
                    return server;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, search).await.unwrap()
}

/// Waits until the leader lets a broker follow the metadata.
async fn await_following(servers: &[Server], node: u64) {
    let attempt = async {
        loop {
            let metadata = controller(servers).await.broker().cluster().metadata().clone();
            let described = metadata.describe().await.unwrap();
            if described.learners.contains(&node) || described.voters.contains(&node) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.unwrap();
}

async fn known_to_all(servers: &[Server], node: u64, peer: &str) {
    for server in servers {
        let known = server.broker().cluster().wait_for(|state| {
            state.member(node).is_some_and(|(member, _)| member.peer == peer).then_some(())
        });
        tokio::time::timeout(PATIENCE, known).await.unwrap().unwrap();
    }
}

async fn stop(servers: impl IntoIterator<Item = Server>) {
    for server in servers {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_broker_joins_by_knowing_one_and_follows_the_metadata() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let data = root.path().join("fourth");
    let fourth = Server::start(joining_config(&servers[..1], &data)).await.unwrap();
    assert_eq!((fourth.config().node, fourth.directory().identity().cluster), (4, CLUSTER));
    await_following(&servers, 4).await;
    ready(&fourth).await;
    let peer = fourth.addresses().peer.to_string();
    let servers: Vec<Server> = servers.into_iter().chain([fourth]).collect();
    known_to_all(&servers, 4, &peer).await;
    for server in &servers {
        let mut client = Client::connect(server.addresses().native).await;
        let listed = client.call(&ListBrokersRequest {}).await.unwrap().brokers;
        assert_eq!(listed.iter().map(|broker| broker.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(listed[3].rack.as_deref(), Some("b"));
        assert_eq!(
            listed.iter().map(|broker| broker.metadata).collect::<Vec<_>>(),
            [true, true, true, false]
        );
    }
    stop(servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_joined_just_starts_again_even_at_other_addresses_and_with_its_seeds_gone() {
    let root = tempfile::tempdir().unwrap();
    let mut servers = cluster(root.path(), 3).await;
    let data = root.path().join("fourth");
    let config = joining_config(&servers[..1], &data);
    let fourth = Server::start(config.clone()).await.unwrap();
    let directory = fourth.directory().identity().directory;
    // It has followed nothing yet: only what it was told when it joined leads it to the others.
    fourth.stop().await;
    await_following(&servers, 4).await;
    let seed = servers.remove(0);
    seed.stop().await;
    let again = Server::start(config).await.unwrap();
    assert_eq!((again.config().node, again.directory().identity().directory), (4, directory));
    let peer = again.addresses().peer.to_string();
    ready(&again).await;
    servers.push(again);
    known_to_all(&servers, 4, &peer).await;
    let state = servers[0].broker().cluster().state();
    assert_eq!((state.members().len(), state.next_broker()), (4, 5));
    stop(servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_cluster_does_not_join_and_is_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("other");
    single(&data).await.stop().await;
    let identity = std::fs::read(data.join("identity.json")).unwrap();
    let servers = cluster(root.path(), 3).await;
    for (node, server) in (1..).zip(&servers) {
        known_to_all(&servers, node, &server.addresses().peer.to_string()).await;
    }
    let refused = Server::start(joining_config(&servers, &data)).await.err().unwrap();
    assert!(matches!(&refused, ServerError::Join { .. }), "{refused}");
    assert!(refused.to_string().contains("give an empty directory"), "{refused}");
    assert_eq!(std::fs::read(data.join("identity.json")).unwrap(), identity);
    let elsewhere =
        Config { cluster: Some(ClusterId([9; 16])), ..joining_config(&servers, &root.path().join("blank")) };
    let refused = Server::start(elsewhere).await.err().unwrap().to_string();
    assert!(refused.contains("correct `join` or `cluster`"), "{refused}");
    assert_eq!(controller(&servers).await.broker().cluster().state().next_broker(), 4);
    stop(servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_holds_replicas_is_not_removed_and_an_unknown_one_is_named() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    known_to_all(&servers, 3, &servers[2].addresses().peer.to_string()).await;
    let mut client = Client::connect(controller(&servers).await.addresses().native).await;
    let in_use = client.call(&RemoveBrokerRequest { broker: 3 }).await.unwrap_err();
    assert_eq!(in_use.code, ErrorCode::BrokerInUse);
    assert!(in_use.message.contains("lockstep broker drain 3"), "{in_use}");
    let unknown = client.call(&RemoveBrokerRequest { broker: 9 }).await.unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownBroker);
    assert!(unknown.message.contains("lockstep broker list"), "{unknown}");
    stop(servers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_broker_is_told_so_and_takes_no_part_even_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let config = joining_config(&servers, &root.path().join("fourth"));
    let fourth = Server::start(config.clone()).await.unwrap();
    await_following(&servers, 4).await;
    ready(&fourth).await;
    let mut client = Client::connect(controller(&servers).await.addresses().native).await;
    client.call(&RemoveBrokerRequest { broker: 4 }).await.unwrap();
    expelled(&fourth).await;
    let native = fourth.addresses().native;
    let closed = async {
        while tokio::net::TcpStream::connect(native).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("it serves clients on");
    fourth.stop().await;
    let again = Server::start(config.clone()).await.unwrap();
    expelled(&again).await;
    again.stop().await;
    for server in &servers {
        assert!(!server.connected_peers().contains(&4), "still linked to a removed broker");
    }
    // The machine comes back as another broker, with an empty directory.
    let fifth = Server::start(Config { data: root.path().join("fifth"), ..config }).await.unwrap();
    assert_eq!(fifth.config().node, 5);
    stop(servers.into_iter().chain([fifth])).await;
}

/// Waits until a broker knows that it is out.
async fn expelled(server: &Server) {
    let told = async {
        loop {
            match server.broker().readiness() {
                Err(why) if why.contains("removed") => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("nobody told it");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_on_copies_of_one_directory_the_older_one_stops() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let data = root.path().join("fourth");
    let first = Server::start(joining_config(&servers, &data)).await.unwrap();
    await_following(&servers, 4).await;
    ready(&first).await;
    let copy = root.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["identity.json", "joined.json", "peers.json", "shards.json"] {
        std::fs::copy(data.join(file), copy.join(file)).unwrap();
    }
    let second = Server::start(joining_config(&servers, &copy)).await.unwrap();
    let told = async {
        loop {
            match first.broker().readiness() {
                Err(why) if why.contains("copy of this data directory") => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("both run on");
    stop(servers.into_iter().chain([first, second])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_brokers_all_moved_at_once_finds_together_again() {
    let root = tempfile::tempdir().unwrap();
    let servers = cluster(root.path(), 3).await;
    let peer_of = |server: &Server| server.addresses().peer.to_string();
    let before: Vec<String> = servers.iter().map(peer_of).collect();
    stop(servers).await;
    // What they have of each other in the metadata leads nowhere, and to register elsewhere takes a majority.
    let mut moved = Vec::new();
    for (config, sockets) in plan(root.path(), 3) {
        moved.push(Server::start_on(config, sockets).await.unwrap());
    }
    for server in &moved {
        ready(server).await;
        assert!(!before.contains(&peer_of(server)), "it has not moved");
        known_to_all(&moved, server.config().node, &peer_of(server)).await;
    }
    stop(moved).await;
}
