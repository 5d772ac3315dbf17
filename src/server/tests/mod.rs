//! Real brokers on loopback sockets, in this process.

mod bad_input;
mod client;
mod cluster;
mod groups;
mod joining;
mod moves;
mod peers;
mod requests;
mod start;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::record::Record;
use lockstep_protocol::{BatchBuilder, ProducerSequence};

use super::{Listeners, Server};
use crate::config::{Config, Node};
use crate::identity::{ClusterId, format};
use client::Client;

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const CLUSTER: ClusterId = ClusterId([0xC1; 16]);

/// A loopback address that no other broker of this process has: whoever binds or connects while it is stopped takes no port
/// that it comes back to.
fn own_host() -> Ipv4Addr {
    static BROKERS: AtomicU32 = AtomicU32::new(0);
    let broker = 1 + BROKERS.fetch_add(1, Ordering::Relaxed) % 254;
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 + high % 64, low, broker as u8)
}

/// Settings for a broker on ports the system chooses, with a quick pulse.
fn quick_config(node: u64, data: &Path) -> Config {
    let mut config = Config { node, data: data.to_owned(), ..Config::default() };
    let host = own_host();
    config.listen.native = format!("{host}:0");
    config.listen.peer = format!("{host}:0");
    config.listen.http = format!("{host}:0");
    config.raft.tick_ms = 10;
    config.raft.election_ticks = 20;
    config.raft.heartbeat_ticks = 5;
    config.raft.heartbeat_ticks = 2;
    config.storage.spare_segments = 0;
    config.storage.free_space_reserve_bytes = 0;
    config.workers = 2;
    config
}

/// A broker that is a whole cluster, ready to serve.
async fn single(data: &Path) -> Server {
    let server = Server::start(quick_config(1, data)).await.unwrap();
    ready(&server).await;
    server
}

/// Waits until a broker serves its part of the cluster.
async fn ready(server: &Server) {
    let ready = async {
        while server.broker().readiness().is_err() {
            tokio::task::yield_now().await;
            let mut view = server.broker().cluster().metadata().watch();
            let _ = tokio::time::timeout(Duration::from_millis(20), view.changed()).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, ready).await;
    waited.unwrap_or_else(|_| panic!("not ready: {:?}", server.broker().readiness()));
}

/// Sockets and settings of a cluster, before its brokers start.
fn plan(root: &Path, nodes: u64) -> Vec<(Config, Listeners)> {
    let mut configs: Vec<Config> =
        (1..=nodes).map(|node| quick_config(node, &root.join(format!("node-{node}")))).collect();
    let sockets: Vec<Listeners> = configs.iter().map(|config| Listeners::bind(config).unwrap()).collect();
    let members: Vec<Node> = (1..)
        .zip(&sockets)
        .map(|(id, sockets)| {
            let at = sockets.addresses().unwrap();
            Node { id, native: at.native.to_string(), peer: at.peer.to_string(), http: at.http.to_string() }
        })
        .collect();
    for config in &mut configs {
        let own = &members[config.node as usize - 1];
        config.listen.native = own.native.clone();
        config.listen.peer = own.peer.clone();
        config.listen.http = own.http.clone();
        config.nodes = members.clone();
    }
    configs.into_iter().zip(sockets).collect()
}

/// A cluster of this many brokers on fresh directories, ready to serve.
async fn cluster(root: &Path, nodes: u64) -> Vec<Server> {
    let mut servers = Vec::new();
    for (config, sockets) in plan(root, nodes) {
        format(&config.data, CLUSTER, config.node).unwrap();
        servers.push(Server::start_on(config, sockets).await.unwrap());
    }
    for server in &servers {
        ready(server).await;
    }
    servers
}

/// A batch of these values.
fn batch(values: &[&str]) -> Bytes {
    numbered_batch(values, ProducerSequence::NONE)
}

fn numbered_batch(values: &[&str], producer: ProducerSequence) -> Bytes {
    let mut batch = BatchBuilder::new();
    for (timestamp_ms, value) in (1000..).zip(values) {
        batch.push(&Record::new(timestamp_ms, Bytes::copy_from_slice(value.as_bytes()))).unwrap();
    }
    batch.build(producer).unwrap()
}
