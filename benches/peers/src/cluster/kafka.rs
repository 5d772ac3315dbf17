//! Three brokers of Apache Kafka, each of which is a controller too (KRaft).

use std::path::{Path, PathBuf};

use super::{BROKERS, PATIENCE, free_ports, says, wait_until};
use crate::error::PeersError;
use crate::install::Kafka;
use crate::process::{Broker, output_of};
use crate::system::System;

/// Those of Kafka's own start script.
const JVM: [&str; 8] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
const CLUSTER_ID: &str = "bG9ja3N0ZXAtcGVlcnMtMQ";
/// Replication as its documentation recommends it for data that matters; and the files of a topic that is gone do not stay
/// for a minute, until later cases are measured.
const REPLICATION: &str = "\
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
";

fn is_synced(system: System) -> bool {
    system == System::KafkaSynced
}

pub(super) fn settings(system: System) -> String {
    let sync = if is_synced(system) { ", log.flush.interval.messages=1" } else { "" };
    format!(
        "KRaft, combined roles; replication.factor=3, min.insync.replicas=2, \
         log.segment.delete.delay.ms=1000 (and 3 s between cases, so that the files are gone){sync}; the rest as it comes; JVM {}; \
         client: kafka-clients for Java, acks=all, idempotent, buffer.memory=64 MiB, max.request.size=8 MiB, \
         32,768 records in flight for each connection (4,096 in small batches, 1 in the single cases), of which it sends 5 batches to a broker at \
         once; for throughput batch.size=1,000,000 (so that four for each partition that a connection sends to fit into the \
         buffer: 671,088 in partitions-100) and linger.ms=10, in small batches 8 KiB and 0, else 16 KiB and 0; \
         consumer: max.partition.fetch.bytes=8 MiB, max.poll.records=100,000, receive.buffer.bytes=-1 (the kernel's); \
         fan-out: a thin client, one connection for each subscriber",
        JVM[..7].join(" ")
    )
}

pub(super) fn start(
    system: System,
    kafka: &Kafka,
    directory: &Path,
) -> Result<(Vec<Broker>, String), PeersError> {
    let ports = free_ports(2 * BROKERS);
    let (clients, controllers) = ports.split_at(BROKERS);
    let voters: Vec<String> =
        (1..=BROKERS).zip(controllers).map(|(node, port)| format!("{node}@127.0.0.1:{port}")).collect();
    let mut brokers = Vec::new();
    let mut logs: Vec<PathBuf> = Vec::new();
    for node in 1..=BROKERS {
        let settings = directory.join(format!("{node}.properties"));
        let text = properties(
            system,
            node,
            clients[node - 1],
            controllers[node - 1],
            &voters.join(","),
            &directory.join(format!("{node}")),
        );
        std::fs::write(&settings, text).map_err(PeersError::io(&settings))?;
        let mut format = kafka.java(&["-Xmx256M"]);
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&settings);
        output_of(&mut format, PATIENCE)?;
        let log = directory.join(format!("{node}.log"));
        let mut command = kafka.java(&JVM);
        brokers.push(Broker::start(command.arg("kafka.Kafka").arg(&settings), log.clone())?);
        logs.push(log);
    }
    wait_until("Kafka is ready", &mut brokers, || logs.iter().all(|log| says(log, "Kafka Server started")))?;
    let addresses: Vec<String> = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    Ok((brokers, addresses.join(",")))
}

fn properties(
    system: System,
    node: usize,
    client: u16,
    controller: u16,
    voters: &str,
    data: &Path,
) -> String {
    let sync = if is_synced(system) { "log.flush.interval.messages=1\n" } else { "" };
    format!(
        "process.roles=broker,controller\n\
         node.id={node}\n\
         controller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{client}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={}\n\
         {REPLICATION}{sync}",
        data.display()
    )
}
