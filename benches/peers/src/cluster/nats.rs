//! Three NATS servers with JetStream.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{BROKERS, free_ports, wait_until};
use crate::error::PeersError;
use crate::process::Broker;
use crate::system::System;

fn sync_interval(system: System) -> &'static str {
    if system == System::NatsSynced { "sync_interval: always" } else { "" }
}

pub(super) fn settings(system: System) -> String {
    let sync = match sync_interval(system) {
        "" => "synced every 2 minutes, as it comes",
        always => always,
    };
    format!(
        "JetStream, file storage, replicas 3, {sync}; a stream for each partition; client: nats.go, asynchronous \
         publishing with 4,096 pending (one at a time in the single cases), ordered consumers"
    )
}

pub(super) fn start(
    system: System,
    server: &Path,
    directory: &Path,
) -> Result<(Vec<Broker>, String), PeersError> {
    let ports = free_ports(3 * BROKERS);
    let (clients, rest) = ports.split_at(BROKERS);
    let (routes, monitors) = rest.split_at(BROKERS);
    let all_routes: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let mut brokers = Vec::new();
    for node in 0..BROKERS {
        let settings = directory.join(format!("{node}.conf"));
        let text = format!(
            "server_name: n{node}\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n\
             jetstream {{ store_dir: \"{}\"\n{}\n}}\n\
             cluster {{ name: peers\nlisten: \"127.0.0.1:{}\"\nroutes: [{}]\n}}\n",
            clients[node],
            monitors[node],
            directory.join(format!("{node}")).display(),
            sync_interval(system),
            routes[node],
            all_routes.join(", "),
        );
        std::fs::write(&settings, text).map_err(PeersError::io(&settings))?;
        let log = directory.join(format!("{node}.log"));
        brokers.push(Broker::start(Command::new(server).arg("-c").arg(&settings), log)?);
    }
    wait_until("NATS is ready", &mut brokers, || monitors.iter().all(|port| is_healthy(*port)))?;
    let addresses: Vec<String> = clients.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    Ok((brokers, addresses.join(",")))
}

/// Whether a server says that it and its JetStream are well.
fn is_healthy(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}
