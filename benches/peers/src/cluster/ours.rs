//! Three brokers of ours, as `lockstep up` runs them.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::{says, wait_until};
use crate::error::PeersError;
use crate::process::Broker;

pub(super) const SETTINGS: &str = "lockstep up, all settings as they come: a record is acknowledged when it is synced on two of three replicas; client: ours for Rust, 32,768 records in flight for each connection (4,096 for each partition in small batches, 1 in the single cases), of which it sends 5 batches to a broker at once; fan-out: one connection for each subscriber";

pub(super) fn start(program: &Path, directory: &Path) -> Result<(Vec<Broker>, String), PeersError> {
    let base = free_base()?;
    let log = directory.join("up.log");
    let mut command = Command::new(program);
    command.args(["up", "--port-base", &base.to_string(), "--data"]).arg(directory.join("data"));
    let mut brokers = vec![Broker::start(&mut command, log.clone())?];
    wait_until("lockstep is ready", &mut brokers, || says(&log, "ready"))?;
    let addresses = [0, 10, 20].map(|offset| format!("127.0.0.1:{}", base + offset));
    Ok((brokers, addresses.join(",")))
}

/// `up` gives each broker ten ports.
fn free_base() -> Result<u16, PeersError> {
    let is_free = |base: &u16| (0..30).all(|offset| TcpListener::bind(("127.0.0.1", base + offset)).is_ok());
    let first = 10_000 + (std::process::id() % 500) as u16 * 40;
    let found = (first..31_900).chain(10_000..first).step_by(40).find(is_free);
    found.ok_or_else(|| PeersError::Missing("no thirty ports in a row are free".to_owned()))
}
