//! How a start may fail, and that it says how to go on.

use super::*;
use crate::engine::{Health, ShardView};
use crate::identity::IdentityError;
use crate::server::ServerError;

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_setting() {
    let root = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = quick_config(1, root.path());
    config.listen.peer = taken.local_addr().unwrap().to_string();
    let error = Server::start(config).await.err().unwrap();
    assert!(matches!(error, ServerError::Listen { listener: "peer", .. }));
    let message = error.to_string();
    assert!(message.contains("listen.peer") && message.contains(&taken.local_addr().unwrap().to_string()));
    assert!(std::fs::read_dir(root.path()).unwrap().next().is_none(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_on_a_directory_is_refused_and_the_first_serves_on() {
    let root = tempfile::tempdir().unwrap();
    let first = single(root.path()).await;
    let error = Server::start(quick_config(1, root.path())).await.err().unwrap();
    assert!(matches!(error, ServerError::Directory(IdentityError::Locked { .. })), "{error}");
    Client::connect(first.addresses().native).await.create_topic("t", 1).await.unwrap();
    first.stop().await;
    single(root.path()).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_node_or_cluster_is_refused() {
    let root = tempfile::tempdir().unwrap();
    format(root.path(), CLUSTER, 2).unwrap();
    let error = Server::start(quick_config(1, root.path())).await.err().unwrap();
    assert!(matches!(error, ServerError::Directory(IdentityError::ForeignNode { found: 2, .. })));
    let mut config = quick_config(2, root.path());
    config.cluster = Some(ClusterId([9; 16]));
    let error = Server::start(config).await.err().unwrap();
    assert!(matches!(error, ServerError::Directory(IdentityError::ForeignCluster { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_of_several_never_formats_itself_unless_it_is_told_to() {
    let root = tempfile::tempdir().unwrap();
    let (config, sockets) = plan(root.path(), 3).remove(0);
    let data = config.data.clone();
    let error = Server::start_on(config.clone(), sockets).await.err().unwrap();
    assert!(matches!(error, ServerError::Directory(IdentityError::Missing { .. })), "{error}");
    assert!(error.to_string().contains("lockstep format"));
    assert!(!data.exists());

    let mut config = config;
    config.bootstrap = true;
    config.cluster = Some(CLUSTER);
    let server = Server::start(config).await.unwrap();
    assert_eq!(server.directory().identity().cluster, CLUSTER);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_files_vanished_stays_out_and_says_why() {
    let root = tempfile::tempdir().unwrap();
    let server = single(root.path()).await;
    let mut client = Client::connect(server.addresses().native).await;
    let shard = client.create_topic("t", 1).await.unwrap().partitions[0].shard;
    client.produce("t", batch(&["a"])).await.unwrap();
    server.stop().await;
    std::fs::remove_dir_all(root.path().join(crate::engine::directory(shard))).unwrap();

    let server = Server::start(quick_config(1, root.path())).await.unwrap();
    ready(&server).await;
    let handle = server.broker().cluster().replica(shard).unwrap();
    let mut watch = handle.watch();
    let halted = |view: &ShardView| matches!(&view.health, Health::Faulty(why) if why.contains("no other replica to repair it from"));
    tokio::time::timeout(PATIENCE, watch.wait_for(halted)).await.unwrap().unwrap();
    let mut client = Client::connect(server.addresses().native).await;
    let refused = client.produce("t", batch(&["b"])).await.unwrap_err();
    assert_eq!(refused.code, lockstep_protocol::ErrorCode::ShardFaulty);
    let segments = std::fs::read_dir(root.path().join(crate::engine::directory(shard))).unwrap().count();
    assert_eq!(segments, 0, "formatted anew");
    client.create_topic("u", 1).await.unwrap();
    client.produce("u", batch(&["c"])).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_metadata_log_stops_the_start() {
    let root = tempfile::tempdir().unwrap();
    single(root.path()).await.stop().await;
    std::fs::remove_dir_all(root.path().join("shards")).unwrap();
    let error = Server::start(quick_config(1, root.path())).await.err().unwrap();
    assert!(matches!(error, ServerError::Cluster(_)), "{error}");
}
