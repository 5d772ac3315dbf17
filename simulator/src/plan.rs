//! Everything a run is going to do to the cluster, drawn up front from the seed.
//!
//! What holds: a run is a function of its plan. So a plan can be written down, and made smaller part by part while it
//! still fails. Which kinds of fault occur, and how often, is drawn per seed (swarm testing): a run in which
//! everything happens at once explores less than many in which a few things happen often.

use lockstep::random::Random;
use serde::{Deserialize, Serialize};

use crate::brokers;
use crate::kinds::{FaultKind, Target};
use crate::placement;

/// The plan of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What all chance during the run comes from.
    pub seed: u64,
    /// The cluster is one of brokers, with a metadata shard; else nodes hold plain shards, and the simulator moves them.
    #[serde(default)]
    pub brokers: bool,
    /// Nodes 1 to this one; of brokers, those that join included.
    pub nodes: u64,
    /// Nodes 1 to this one hold the replicas at first.
    pub replicas: u64,
    /// Partitions 0 to one below this, each a shard.
    pub shards: u32,
    /// How long faults happen and clients write, in milliseconds.
    pub safety_ms: u64,
    /// How the nodes are set up.
    pub cluster: ClusterSettings,
    /// What the network is like all the time.
    pub network: NetworkSettings,
    /// What the disks are like all the time.
    pub disk: DiskSettings,
    /// Who uses the cluster.
    pub load: LoadSettings,
    /// What happens beside, in order of time.
    pub parts: Vec<Part>,
}

/// How nodes are set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterSettings {
    /// A tick, in milliseconds.
    pub tick_ms: u64,
    /// Ticks until a follower asks for votes.
    pub election_ticks: usize,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Bytes of newest entries in memory, per shard.
    pub cache_bytes: usize,
    /// Bytes of one append message.
    pub message_bytes: u64,
    /// Keep about this many bytes, if not all.
    pub retention_bytes: Option<u64>,
    /// Keep records about this long, if not for ever.
    pub retention_ms: Option<u64>,
    /// Segment files kept for reuse.
    pub pool_files: usize,
    /// Clocks run fast or slow by up to so many millionths.
    pub drift_ppm: u64,
}

/// What the network is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSettings {
    /// One way, at least, in microseconds.
    pub latency_us_min: u64,
    /// One way, usually at most, in microseconds.
    pub latency_us_max: u64,
    /// Frames that take ten to a hundred times as long, per million.
    pub spike_ppm: u64,
    /// Frames lost, per million.
    pub loss_ppm: u64,
    /// Frames that arrive twice, per million.
    pub repeat_ppm: u64,
    /// Frames that overtake or are overtaken, per million.
    pub reorder_ppm: u64,
    /// Frames with a flipped bit, per million.
    pub damage_ppm: u64,
}

/// What the disks are like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskSettings {
    /// A write and sync, at least, in microseconds.
    pub sync_us_min: u64,
    /// A write and sync, usually at most, in microseconds.
    pub sync_us_max: u64,
    /// Syncs that take ten to a hundred times as long, per million.
    pub spike_ppm: u64,
    /// Between one step of the scrub and the next, in milliseconds.
    pub scrub_pause_ms: u64,
    /// Syncs that do nothing and report success: not a fault that any log survives, so only tests set this.
    pub lie: bool,
}

/// Who uses each partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadSettings {
    /// Idempotent writers with several batches under way.
    pub pipelined: u32,
    /// Writers without a producer id.
    pub plain: u32,
    /// Writers that state the LSN they expect.
    pub conditional: u32,
    /// Writers that take the partition over with a greater fencing epoch now and then.
    pub fenced: u32,
    /// Writers whose batches come with a group's position, and are told apart by it alone.
    pub positioned: u32,
    /// Readers from the start.
    pub readers: u32,
    /// Readers at any place.
    pub random_readers: u32,
    /// Those who subscribe, from the start.
    pub subscribers: u32,
    /// Those who ask how far the log goes.
    pub tail_readers: u32,
    /// Between one batch and the next of a writer, on average, in microseconds.
    pub pause_us: u64,
    /// Batches of a pipelined writer without an answer.
    pub in_flight: usize,
    /// Records of a batch, at the most.
    pub records: u32,
    /// Bytes added to a record, at the most.
    pub padding: usize,
    /// How long a client waits for an answer, in milliseconds.
    pub request_timeout_ms: u64,
    /// How long a client retries, in milliseconds.
    pub retry_budget_ms: u64,
}

/// Something that happens once, for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// For how long, in milliseconds; 0 where that has no meaning.
    pub for_ms: u64,
    /// What.
    pub kind: FaultKind,
    /// Whom.
    pub target: Target,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::draw_plain(seed);
        if brokers::of_brokers(seed) {
            brokers::draw_brokers(&mut plan);
        }
        plan
    }

    /// The plan of a seed for nodes with plain shards.
    pub fn draw_plain(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x51D0_7A1E_5EED_0001);
        let random = &mut random;
        let nodes = if chance(random, 1, 4) { 5 } else { 3 };
        let shards = 1 + random.below(3) as u32;
        let mut plan = Self {
            seed,
            brokers: false,
            nodes,
            replicas: nodes,
            shards,
            safety_ms: 4_000 + random.below(8_000),
            cluster: ClusterSettings::draw(random),
            network: NetworkSettings::draw(random),
            disk: DiskSettings::draw(random),
            load: LoadSettings::draw(random),
            parts: Vec::new(),
        };
        plan.parts = plan.draw_parts(random);
        plan.disk.scrub_pause_ms = pick(random, &[20, 100, 500, 2_000]);
        if plan.moves() {
            placement::draw_spares(&mut plan, random);
        }
        plan.load.positioned = u32::from(chance(random, 1, 3));
        plan.load.subscribers = random.below(3) as u32;
        plan
    }

    /// Whether replicas move.
    pub fn moves(&self) -> bool {
        !self.brokers && self.replicas < self.nodes
            || self.parts.iter().any(|part| matches!(part.kind, FaultKind::Move { .. }))
    }

    /// Whether records may go by themselves.
    pub fn forgets(&self) -> bool {
        let settings = self.cluster.retention_bytes.or(self.cluster.retention_ms).is_some();
        settings || self.parts.iter().any(|part| matches!(part.kind, FaultKind::Retention { .. }))
    }

    /// Whether the logs' beginnings go, by themselves or by request.
    pub fn drops_the_oldest(&self) -> bool {
        self.forgets() || self.parts.iter().any(|part| matches!(part.kind, FaultKind::Trim { .. }))
    }

    /// A few kinds, each happening several times.
    fn draw_parts(&self, random: &mut Random) -> Vec<Part> {
        let mut parts = Vec::new();
        for kind in FaultKind::ALL {
            if !chance(random, kind.share(), 100) {
                continue;
            }
            for _ in 0..1 + random.below(kind.times_max()) {
                parts.push(Part {
                    at_ms: 300 + random.below(self.safety_ms - 500),
                    for_ms: kind.draw_duration_ms(random),
                    kind: kind.draw(random),
                    target: self.draw_target(random),
                });
            }
        }
        parts.sort_by_key(|part| part.at_ms);
        parts
    }

    fn draw_target(&self, random: &mut Random) -> Target {
        match random.below(2) {
            0 => Target::Leader(random.below(self.shards.into()) as u32),
            _ => Target::Node(1 + random.below(self.nodes)),
        }
    }
}

impl ClusterSettings {
    fn draw(random: &mut Random) -> Self {
        Self {
            tick_ms: pick(random, &[10, 10, 20, 50]),
            election_ticks: pick(random, &[6, 10, 10, 20]),
            segment_bytes: pick(random, &[16 << 10, 32 << 10, 64 << 10, 256 << 10]),
            cache_bytes: pick(random, &[0, 8 << 10, 64 << 10, 1 << 20]),
            message_bytes: pick(random, &[1 << 10, 16 << 10, 1 << 20]),
            retention_bytes: chance(random, 1, 4).then(|| 64 << 10 << random.below(3)),
            retention_ms: chance(random, 1, 8).then(|| 500 + random.below(3_000)),
            pool_files: pick(random, &[0, 0, 2, 4]),
            drift_ppm: pick(random, &[0, 100, 20_000]),
        }
    }
}

impl NetworkSettings {
    fn draw(random: &mut Random) -> Self {
        let latency_us_min = pick(random, &[20, 50, 500]);
        Self {
            latency_us_min,
            latency_us_max: latency_us_min * pick(random, &[2, 4, 20]),
            spike_ppm: pick(random, &[0, 0, 1_000, 20_000]),
            loss_ppm: pick(random, &[0, 0, 500, 10_000]),
            repeat_ppm: pick(random, &[0, 0, 1_000, 20_000]),
            reorder_ppm: pick(random, &[0, 0, 1_000, 50_000]),
            damage_ppm: pick(random, &[0, 0, 0, 300, 3_000]),
        }
    }
}

impl DiskSettings {
    fn draw(random: &mut Random) -> Self {
        let sync_us_min = pick(random, &[50, 100, 500, 2_000]);
        Self {
            sync_us_min,
            sync_us_max: sync_us_min * pick(random, &[2, 5, 10]),
            spike_ppm: pick(random, &[0, 0, 2_000, 20_000]),
            scrub_pause_ms: 250,
            lie: false,
        }
    }
}

impl LoadSettings {
    fn draw(random: &mut Random) -> Self {
        Self {
            pipelined: 1 + random.below(4) as u32,
            plain: random.below(2) as u32,
            conditional: random.below(3) as u32,
            fenced: u32::from(chance(random, 1, 6)),
            positioned: 0,
            readers: 1 + random.below(2) as u32,
            random_readers: random.below(2) as u32,
            subscribers: 0,
            tail_readers: random.below(2) as u32,
            pause_us: pick(random, &[500, 5_000, 20_000, 20_000]),
            in_flight: 1 + random.below(5) as usize,
            records: pick(random, &[1, 3, 10]),
            padding: pick(random, &[0, 30, 200, 1_000]),
            request_timeout_ms: pick(random, &[300, 1_000, 3_000]),
            retry_budget_ms: pick(random, &[1_000, 5_000, 60_000]),
        }
    }
}

/// True in `share` of `of` cases.
pub fn chance(random: &mut Random, share: u64, of: u64) -> bool {
    random.below(of) < share
}

fn pick<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.below(choices.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_drawn_from_its_seed_alone_and_reads_back_from_its_text() {
        let plan = Plan::draw(7);
        assert_eq!(plan, Plan::draw(7));
        assert_ne!(plan, Plan::draw(8));
        let text = serde_json::to_string(&plan).expect("a plan is plain data");
        assert_eq!(serde_json::from_str::<Plan>(&text).expect("its own text"), plan);
    }

    #[test]
    fn every_kind_of_fault_is_drawn_by_some_seed() {
        let drawn: Vec<&str> =
            (0..200).flat_map(|seed| Plan::draw(seed).parts).map(|part| part.kind.name()).collect();
        for kind in FaultKind::ALL.iter().chain(FaultKind::OF_BROKERS) {
            assert!(drawn.contains(&kind.name()), "{}", kind.name());
        }
    }
}
