//! Networks that lose packets and lose directions: each broker in a network namespace of its own, joined by a bridge.
//!
//! What holds:
//! - Clients stand on the bridge and reach every broker all the time, unless a broker is isolated altogether.
//! - A way is cut where it ends: the receiver's `nft` drops what comes from there, unseen by the sender. Packets in the
//!   other direction still arrive. Without `nft`, brokers are isolated only.
//! - Whatever is cut is joined again, and then everything must commit.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use crate::cluster::{Cluster, Settings};
use crate::command;
use crate::error::RigError;
use crate::judge::Findings;
use crate::load::{Load, Plan, TOPIC};
use crate::machine;
use crate::measure::{Table, Times};
use crate::rig::Rig;
use crate::scenario::{conclude, roots, wait_for_acknowledgement};

const BROKERS: u8 = 3;
/// How long a fault lasts, at most: some are shorter than an election, some much longer.
const FAULT_TIME_MAX: Duration = Duration::from_millis(2500);
const PEACE_MAX: Duration = Duration::from_millis(400);
/// Packets lost, in percent.
const LOSS_PERCENT: u8 = 20;

/// How much is to be done.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Faults, all rounds together.
    #[arg(long, default_value_t = 60)]
    pub faults: u64,
    /// Faults between two judgements.
    #[arg(long, default_value_t = 20)]
    pub round: u64,
}

/// What happens to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The leader reaches nobody, and nobody reaches it; clients neither.
    IsolateLeader,
    /// The same for a follower.
    IsolateFollower,
    /// What the leader sends to the others is lost; what they send arrives.
    LeaderUnheard,
    /// What the others send to the leader is lost.
    LeaderDeaf,
    /// Two of three do not reach each other; both reach the third.
    TwoApart,
    /// One direction between two is lost.
    OneWay,
    /// Packets are lost everywhere.
    Loss,
}

const FAULTS: [(Fault, &str); 7] = [
    (Fault::IsolateLeader, "leader isolated"),
    (Fault::IsolateFollower, "follower isolated"),
    (Fault::LeaderUnheard, "leader unheard by the others"),
    (Fault::LeaderDeaf, "leader deaf to the others"),
    (Fault::TwoApart, "two of three apart"),
    (Fault::OneWay, "one direction between two"),
    (Fault::Loss, "packets lost everywhere"),
];

/// Runs it.
///
/// # Errors
/// The rig itself cannot go on.
pub fn run(rig: &mut Rig, options: &Options) -> Result<Findings, RigError> {
    let mut findings = Findings::default();
    if let Err(why) = network_namespaces() {
        machine::skipped("network faults", &why);
        return Ok(findings);
    }
    let mut possible = FAULTS.to_vec();
    if let Err(why) = machine::has_program("nft") {
        machine::skipped("lost directions and lost packets", &why);
        possible.retain(|(fault, _)| [Fault::IsolateLeader, Fault::IsolateFollower].contains(fault));
    }
    let mut counts = vec![0_u64; possible.len()];
    let (mut done, mut acknowledged, mut healed) = (0, 0, Times::default());
    while done < options.faults && findings.violations() == 0 {
        let faults = options.round.clamp(1, options.faults - done);
        let name = format!("network-{done}");
        let network = Network::create()?;
        let roots = roots(rig, &name, u64::from(BROKERS))?;
        let outside = rig.workspace.directory(&name)?;
        let host = |at: usize| {
            let node = u8::try_from(at).unwrap_or(0) + 1;
            (IpAddr::V4(network.address(node)), Some(network.namespace(node)))
        };
        let mut cluster = Cluster::start_on(rig, &roots, &outside, Settings::default(), host)?;
        let load = Load::start(rig, &cluster.bootstrap(), Plan::default())?;
        wait_for_acknowledgement(rig, &load, 0, &mut findings)?;
        for _ in 0..faults {
            let at = usize::try_from(rig.random.below(possible.len() as u64)).unwrap_or(0);
            let leader = cluster.leader(TOPIC, 0).and_then(|node| u8::try_from(node).ok()).unwrap_or(1);
            network.cut(possible[at].0, leader)?;
            let time = rig.random.time(FAULT_TIME_MAX);
            rig.pause(time)?;
            network.join()?;
            counts[at] += 1;
            let joined = std::time::Instant::now();
            cluster.wait_until_ready(rig)?;
            wait_for_acknowledgement(rig, &load, load.acknowledged(), &mut findings)?;
            healed.add(joined.elapsed());
            let peace = rig.random.time(PEACE_MAX);
            rig.pause(peace)?;
        }
        done += faults;
        acknowledged += load.acknowledged();
        let recorder = load.finish()?;
        findings.judge(rig, &cluster.bootstrap(), &recorder, &[1, 2, 3])?;
        cluster.stop_all();
        roots.iter().for_each(|root| findings.verify_files(&rig.program, root));
        println!("network: {done} of {} faults", options.faults);
        if findings.violations() == 0 {
            rig.workspace.clear(&name);
        }
    }
    let mut table = Table::default();
    for ((_, name), count) in possible.iter().zip(counts) {
        table.row(*name, count);
    }
    table.row("acknowledged batches", acknowledged);
    conclude(rig, "network", table, &[("joined again to ready and acknowledging", &healed)], &findings);
    Ok(findings)
}

/// Whether this machine has network namespaces, and this user may make them.
fn network_namespaces() -> Result<(), String> {
    machine::is_root()?;
    machine::has_program("ip")?;
    machine::has_program("nsenter")
}

/// Namespaces and the bridge between them. Dropping it removes them.
struct Network {
    /// In every name, so that two rigs do not meet.
    mark: String,
    subnet: [u8; 3],
}

impl Network {
    fn create() -> Result<Self, RigError> {
        let pid = std::process::id();
        let [.., high, low] = pid.to_be_bytes();
        let network = Self { mark: format!("{}", pid % 100_000), subnet: [10, 64 + high % 64, low] };
        let bridge = network.bridge();
        // What an earlier rig of the same process id left.
        network.remove();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", network.address(254)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 1..=BROKERS {
            let (namespace, outer) = (network.namespace(node), network.outer(node));
            ip(&["netns", "add", &namespace])?;
            ip(&["link", "add", &outer, "type", "veth", "peer", "name", "inner", "netns", &namespace])?;
            ip(&["link", "set", &outer, "master", &bridge, "up"])?;
            ip(&["-n", &namespace, "addr", "add", &format!("{}/24", network.address(node)), "dev", "inner"])?;
            ip(&["-n", &namespace, "link", "set", "inner", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    fn address(&self, node: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, node)
    }

    fn namespace(&self, node: u8) -> String {
        format!("lockstep-{}-{node}", self.mark)
    }

    fn bridge(&self) -> String {
        format!("lsb{}", self.mark)
    }

    fn outer(&self, node: u8) -> String {
        format!("lsv{}n{node}", self.mark)
    }

    fn cut(&self, fault: Fault, leader: u8) -> Result<(), RigError> {
        let (second, third) = (leader % BROKERS + 1, (leader + 1) % BROKERS + 1);
        let others = [second, third];
        match fault {
            Fault::IsolateLeader => self.isolate(leader),
            Fault::IsolateFollower => self.isolate(second),
            Fault::LeaderUnheard => others.iter().try_for_each(|to| self.lose_way(leader, *to)),
            Fault::LeaderDeaf => others.iter().try_for_each(|from| self.lose_way(*from, leader)),
            Fault::TwoApart => self.lose_way(leader, second).and_then(|()| self.lose_way(second, leader)),
            Fault::OneWay => self.lose_way(second, third),
            Fault::Loss => (1..=BROKERS).try_for_each(|node| self.lose_packets(node)),
        }
    }

    fn isolate(&self, node: u8) -> Result<(), RigError> {
        ip(&["link", "set", &self.outer(node), "down"])
    }

    /// Packets of `from` do not arrive at `to`.
    fn lose_way(&self, from: u8, to: u8) -> Result<(), RigError> {
        self.drop_at(to, &format!("ip saddr {}", self.address(from)))
    }

    fn lose_packets(&self, node: u8) -> Result<(), RigError> {
        self.drop_at(node, &format!("numgen random mod 100 < {LOSS_PERCENT}"))
    }

    /// A node's namespace drops the arriving packets that match.
    fn drop_at(&self, node: u8, matching: &str) -> Result<(), RigError> {
        let chain = "add table ip rig; add chain ip rig in { type filter hook input priority 0; }";
        self.nft(node, &format!("{chain}; add rule ip rig in {matching} drop"))
    }

    fn nft(&self, node: u8, rules: &str) -> Result<(), RigError> {
        command::run(command::in_namespace(&self.namespace(node)).args(["nft", rules])).map(|_| ())
    }

    /// Undoes every fault.
    fn join(&self) -> Result<(), RigError> {
        for node in 1..=BROKERS {
            ip(&["link", "set", &self.outer(node), "up"])?;
            if command::exists("nft") {
                self.nft(node, "flush ruleset")?;
            }
        }
        Ok(())
    }

    fn remove(&self) {
        for node in 1..=BROKERS {
            let _ = ip(&["netns", "del", &self.namespace(node)]);
            let _ = ip(&["link", "del", &self.outer(node)]);
        }
        let _ = ip(&["link", "del", &self.bridge()]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(arguments: &[&str]) -> Result<(), RigError> {
    command::run(Command::new("ip").args(arguments)).map(|_| ())
}
