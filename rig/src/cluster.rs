//! Brokers that form a cluster.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::{Broker, Place};
use crate::error::RigError;
use crate::http;
use crate::random::Random;
use crate::rig::Rig;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL_PAUSE: Duration = Duration::from_millis(3);

/// What the brokers of a cluster are told beside their addresses.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The size of a segment file.
    pub segment_bytes: u64,
    /// The largest batch.
    pub max_batch_bytes: u64,
    /// Whether timeouts are far shorter than as shipped, so that a short run sees many.
    pub quick: bool,
    /// How fast replicas move, in bytes a second, if not as shipped.
    pub move_bytes_per_second: Option<u64>,
}

impl Default for Settings {
    /// Small segments, so that a short run fills many, and a quick election.
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, max_batch_bytes: 1 << 20, quick: true, move_bytes_per_second: None }
    }
}

impl Settings {
    /// As brokers are by default: what is measured is what users see.
    #[must_use]
    pub fn shipped() -> Self {
        Self { segment_bytes: 64 << 20, max_batch_bytes: 8 << 20, quick: false, move_bytes_per_second: None }
    }

    fn toml(self) -> String {
        let Self { segment_bytes, max_batch_bytes, quick, move_bytes_per_second } = self;
        let pace = "[raft]\ntick_ms = 10\nheartbeat_ticks = 5\nelection_ticks = 20\n\n";
        let pace = if quick { pace } else { "" };
        let moves = move_bytes_per_second.map(|bytes| format!("move_bytes_per_second = {bytes}\n"));
        let moves = moves.unwrap_or_default();
        let record = max_batch_bytes;
        format!(
            "[limits]\nmax_batch_bytes = {max_batch_bytes}\nmax_record_bytes = {record}\n\n\
             [storage]\nsegment_bytes = {segment_bytes}\nfree_space_reserve_bytes = {}\n{moves}\n\
             {pace}\
             [log]\nfilter = \"info\"\n",
            32 << 20,
        )
    }
}

/// Brokers that form a cluster; dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    /// The brokers, by node from 1 on.
    pub brokers: Vec<Broker>,
}

impl Cluster {
    /// Formats and starts a cluster: one broker for each root directory, on addresses of this machine alone.
    ///
    /// # Errors
    /// A broker refuses its directory or ends.
    pub fn start(
        rig: &mut Rig,
        roots: &[PathBuf],
        outside: &Path,
        settings: Settings,
    ) -> Result<Self, RigError> {
        let hosts = free_hosts(&mut rig.random, roots.len(), nobody_listens);
        let host = |at: usize| (IpAddr::V4(hosts[at]), None);
        Self::start_on(rig, roots, outside, settings, host)
    }

    /// The same on given addresses, each in a network namespace.
    ///
    /// # Errors
    /// A broker refuses its directory or ends.
    pub fn start_on(
        rig: &mut Rig,
        roots: &[PathBuf],
        outside: &Path,
        settings: Settings,
        host: impl Fn(usize) -> (IpAddr, Option<String>),
    ) -> Result<Self, RigError> {
        let place = |(at, root): (usize, &PathBuf)| {
            let (host, namespace) = host(at);
            Place {
                node: at as u64 + 1,
                host,
                data: root.join("data"),
                outside: outside.to_owned(),
                namespace,
            }
        };
        let places: Vec<Place> = roots.iter().enumerate().map(place).collect();
        let id = format!("{:016x}{:016x}", rig.random.bits(), rig.random.bits());
        let format =
            |place: &Place| Broker::format(&rig.program, place.clone(), &id, &places, &settings.toml());
        let mut cluster = Self { brokers: places.iter().map(format).collect::<Result<_, _>>()? };
        cluster.start_all()?;
        cluster.wait_until_ready(rig)?;
        Ok(cluster)
    }

    /// Starts a broker that joins through all others, on an empty directory, and waits until it is ready; how long that
    /// took. The cluster gives it the next id.
    ///
    /// # Errors
    /// It ends by itself, or is not ready in a minute.
    pub fn join(
        &mut self,
        rig: &mut Rig,
        root: &Path,
        outside: &Path,
        settings: Settings,
    ) -> Result<Duration, RigError> {
        let node = self.brokers.len() as u64 + 1;
        let host = IpAddr::V4(free_hosts(&mut rig.random, 1, nobody_listens)[0]);
        let place =
            Place { node, host, data: root.join("data"), outside: outside.to_owned(), namespace: None };
        let seeds: Vec<_> = self.brokers.iter().map(|broker| broker.place().native()).collect();
        self.brokers.push(Broker::joining(&rig.program, place, &seeds, &settings.toml())?);
        self.start_all()?;
        self.wait_until_one_is_ready(rig, node)
    }

    /// Starts every broker that does not run.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start_all(&mut self) -> Result<(), RigError> {
        let idle = |broker: &&mut Broker| broker.pid().is_none();
        self.brokers.iter_mut().filter(idle).try_for_each(Broker::start)
    }

    /// The broker of a node.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn broker(&mut self, node: u64) -> &mut Broker {
        let found = self.brokers.iter_mut().find(|broker| broker.place().node == node);
        found.expect("scenarios name only nodes they started")
    }

    /// Kills every broker that runs.
    pub fn kill_all(&mut self) {
        for broker in &self.brokers {
            broker.signal(rustix::process::Signal::KILL);
        }
        self.brokers.iter_mut().for_each(Broker::kill);
    }

    /// Stops every broker in its own way.
    pub fn stop_all(&mut self) {
        for broker in &self.brokers {
            broker.signal(rustix::process::Signal::TERM);
        }
        self.brokers.iter_mut().for_each(Broker::stop);
    }

    /// Waits until all that run are ready; returns how long each took from the start of its process.
    ///
    /// # Errors
    /// One ended by itself, or is not ready in a minute.
    pub fn wait_until_ready(&mut self, rig: &Rig) -> Result<Vec<Duration>, RigError> {
        self.wait_until_ready_and(rig, || {})
    }

    /// The same, and calls `look` again and again meanwhile.
    ///
    /// # Errors
    /// As [`Cluster::wait_until_ready`].
    pub fn wait_until_ready_and(
        &mut self,
        rig: &Rig,
        mut look: impl FnMut(),
    ) -> Result<Vec<Duration>, RigError> {
        let deadline = Instant::now() + PATIENCE;
        let mut waiting: Vec<&mut Broker> =
            self.brokers.iter_mut().filter(|broker| broker.pid().is_some()).collect();
        let mut times = Vec::new();
        while !waiting.is_empty() {
            rig.check_interrupted()?;
            look();
            let mut still = Vec::new();
            for broker in waiting {
                broker.check_alive()?;
                if broker.is_ready() {
                    times.push(broker.started().elapsed());
                } else {
                    still.push(broker);
                }
            }
            waiting = still;
            if let Some(late) = waiting.first().filter(|_| Instant::now() > deadline) {
                return Err(RigError::Refused { what: "to become ready", said: why_not_ready(late) });
            }
            std::thread::sleep(POLL_PAUSE);
        }
        Ok(times)
    }

    /// Waits until one broker is ready; how long it took from the start of its process.
    ///
    /// # Errors
    /// As [`Cluster::wait_until_ready`].
    pub fn wait_until_one_is_ready(&mut self, rig: &Rig, node: u64) -> Result<Duration, RigError> {
        let broker = self.broker(node);
        while !broker.is_ready() {
            broker.check_alive()?;
            if broker.started().elapsed() > PATIENCE {
                return Err(RigError::Refused { what: "to become ready", said: why_not_ready(broker) });
            }
            rig.pause(POLL_PAUSE)?;
        }
        Ok(broker.started().elapsed())
    }

    /// Where clients begin.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let all: Vec<u64> = self.brokers.iter().map(|broker| broker.place().node).collect();
        self.bootstrap_of(&all)
    }

    /// The same with some of the brokers.
    #[must_use]
    pub fn bootstrap_of(&self, nodes: &[u64]) -> String {
        let places = self.brokers.iter().map(Broker::place).filter(|place| nodes.contains(&place.node));
        places.map(|place| place.native().to_string()).collect::<Vec<_>>().join(",")
    }

    /// Waits until somebody leads a partition; who it is.
    ///
    /// # Errors
    /// Nobody does in a minute.
    pub fn wait_for_leader(&self, rig: &Rig, topic: &str, partition: u32) -> Result<u64, RigError> {
        let mut leader = None;
        rig.wait_until(PATIENCE, || {
            leader = self.leader(topic, partition);
            leader.is_some()
        })?;
        leader.ok_or_else(|| RigError::Refused { what: "a leader", said: "nobody leads".to_owned() })
    }

    /// Who leads a partition, by its own account.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: u32) -> Option<u64> {
        let told = self.tellings(topic);
        told.into_iter().find_map(|topic| topic["partitions"][partition as usize]["leader"].as_u64())
    }

    /// A topic as the first broker that knows it tells of it.
    #[must_use]
    pub fn topic(&self, topic: &str) -> Option<Value> {
        self.tellings(topic).into_iter().next()
    }

    fn tellings(&self, topic: &str) -> Vec<Value> {
        let running = self.brokers.iter().filter(|broker| broker.pid().is_some());
        let path = format!("/v1/topics/{topic}");
        running.filter_map(|broker| http::json(broker.place().http(), &path)).collect()
    }

    /// A series of the brokers' metrics, summed over those that run.
    #[must_use]
    pub fn metric(&self, name: &str) -> u64 {
        self.brokers.iter().map(|broker| self.metric_of(broker.place().node, name)).sum()
    }

    /// A series of one broker's metrics; 0 while it does not run.
    #[must_use]
    pub fn metric_of(&self, node: u64, name: &str) -> u64 {
        let broker = self.brokers.iter().find(|broker| broker.place().node == node && broker.pid().is_some());
        let metrics = broker.and_then(|broker| http::get(broker.place().http(), "/metrics"));
        metrics.and_then(|(_, metrics)| http::series(&metrics, name)).unwrap_or(0.0) as u64
    }
}

fn why_not_ready(broker: &Broker) -> String {
    let answer = http::get(broker.place().http(), "/readyz").map_or("no answer".to_owned(), |(_, body)| body);
    format!("broker {} is not ready: {answer}\n{}", broker.place().node, broker.last_lines())
}

/// Loopback addresses, each another one, of those that are free. With an address for each broker no port is ever taken by
/// an outgoing connection while its broker is down.
fn free_hosts(random: &mut Random, count: usize, is_free: impl Fn(Ipv4Addr) -> bool) -> Vec<Ipv4Addr> {
    let mut hosts = Vec::new();
    while hosts.len() < count {
        let byte = |random: &mut Random, low| u8::try_from(random.between(low, 250)).unwrap_or(1);
        let host = Ipv4Addr::new(127, byte(random, 64), byte(random, 1), byte(random, 1));
        if !hosts.contains(&host) && is_free(host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Whether a broker could listen there.
fn nobody_listens(host: Ipv4Addr) -> bool {
    (7400..=7402).all(|port| TcpListener::bind((host, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_differ_and_those_in_use_are_passed_over() {
        let first = free_hosts(&mut Random::new(3), 2, |_| true);
        assert_ne!(first[0], first[1]);
        let second = free_hosts(&mut Random::new(3), 2, |host| host != first[0]);
        assert_eq!(second[0], first[1]);
        assert_ne!(second[0], second[1]);
    }

    #[test]
    fn a_host_is_in_use_as_soon_as_one_port_of_a_broker_is() {
        let host = free_hosts(&mut Random::new(std::process::id().into()), 1, nobody_listens)[0];
        let _taken = TcpListener::bind((host, 7401)).unwrap();
        assert!(!nobody_listens(host));
    }
}
