//! Three nodes of RabbitMQ with its plugin for streams.
//!
//! They find each other by Erlang's port mapper, which this starts for them alone: one that a node starts by itself would
//! outlive it.

use std::path::Path;
use std::process::Command;

use super::{BROKERS, free_ports, says, wait_until};
use crate::error::PeersError;
use crate::install::RABBITMQ_SERVER;
use crate::process::Broker;

pub(super) const SETTINGS: &str = "streams on all three nodes, acknowledged by a majority from memory, as they come: no setting makes \
     them sync; a stream for each partition; client: stream-client for Java, dynamic batches of up to 500 records (8 in small batches, 100 \
     where latency counts, 1 in the single cases), 10,000 unconfirmed, no sub-entries; consumer: credit for 10 chunks";

pub(super) fn start(directory: &Path) -> Result<(Vec<Broker>, String), PeersError> {
    let ports = free_ports(2 * BROKERS + 1);
    let (clients, rest) = ports.split_at(BROKERS);
    let (distribution, mapper) = (&rest[..BROKERS], rest[BROKERS]);
    let mut map = Command::new("epmd");
    map.args(["-address", "127.0.0.1", "-port", &mapper.to_string()]);
    let mut brokers = vec![Broker::start(&mut map, directory.join("epmd.log"))?];
    let plugins = directory.join("plugins");
    std::fs::write(&plugins, "[rabbitmq_stream].\n").map_err(PeersError::io(&plugins))?;
    let logs: Vec<_> = (1..=BROKERS).map(|node| directory.join(format!("{node}.log"))).collect();
    for node in 1..=BROKERS {
        let settings = directory.join(format!("{node}.conf"));
        std::fs::write(&settings, properties(clients[node - 1])).map_err(PeersError::io(&settings))?;
        let mut command = Command::new(RABBITMQ_SERVER);
        command
            .env("HOME", directory)
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", name(node))
            .env("RABBITMQ_DIST_PORT", distribution[node - 1].to_string())
            .env("RABBITMQ_CONFIG_FILE", &settings)
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_MNESIA_BASE", directory.join("data"))
            .env("RABBITMQ_LOG_BASE", directory.join("logs"))
            .env("RABBITMQ_PID_FILE", directory.join(format!("{node}.pid")));
        brokers.push(Broker::start(&mut command, logs[node - 1].clone())?);
        // Those that begin at the same moment would each begin a cluster of its own.
        let log = &logs[node - 1];
        wait_until("a node of RabbitMQ is ready", &mut brokers, || says(log, "completed with"))?;
    }
    let addresses: Vec<String> = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    Ok((brokers, addresses.join(",")))
}

fn name(node: usize) -> String {
    format!("peer{node}@localhost")
}

fn properties(client: u16) -> String {
    let nodes: String = (1..=BROKERS)
        .map(|node| format!("cluster_formation.classic_config.nodes.{node} = {}\n", name(node)))
        .collect();
    format!(
        "listeners.tcp = none\n\
         stream.listeners.tcp.1 = 127.0.0.1:{client}\n\
         stream.advertised_host = 127.0.0.1\n\
         stream.advertised_port = {client}\n\
         cluster_formation.peer_discovery_backend = classic_config\n\
         {nodes}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_listens_for_streams_alone_and_looks_for_all_three() {
        let properties = properties(15_551);
        assert!(properties.contains("listeners.tcp = none\nstream.listeners.tcp.1 = 127.0.0.1:15551\n"));
        for node in 1..=BROKERS {
            assert!(properties.contains(&format!("nodes.{node} = peer{node}@localhost\n")), "{properties}");
        }
    }
}
