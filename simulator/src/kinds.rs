//! The faults there are, and the other things done to a cluster from outside.

use lockstep::random::Random;
use serde::{Deserialize, Serialize};

/// Whom a part of the plan is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// This node.
    Node(u64),
    /// Whoever leads this partition by then; node 1 if nobody does.
    Leader(u32),
}

/// A kind of fault or intervention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FaultKind {
    /// The process dies; its machine and page cache stay.
    Kill,
    /// The power goes: what was not synced is lost, as far as chance has it.
    PowerCut,
    /// The power of all nodes goes at once.
    PowerCutAll,
    /// The power goes in the middle of an operation on the disk.
    PowerCutAtIo {
        /// Operations of the disk until then.
        after: u64,
    },
    /// The process stands still, and then meets everything that came in meanwhile at once.
    Pause,
    /// The node's clock jumps.
    ClockJump {
        /// By how much, in milliseconds.
        by_ms: i64,
    },
    /// Nothing goes from or to the node.
    Isolate,
    /// Nothing goes between the node and the others, though clients reach it: a leader that goes on alone.
    CutOff,
    /// Nothing comes to the node, though what it sends arrives.
    Deaf,
    /// Nothing the node sends arrives, though it hears.
    Mute,
    /// The node and its successor cannot speak with each other; both speak with the rest.
    PartialPartition,
    /// What goes to the node is held back, and then comes at once.
    Clog,
    /// The node's connections break; new ones are made at once.
    Disconnect,
    /// The node's disk is many times slower.
    SlowDisk,
    /// The node's disk does nothing for a while.
    StalledDisk,
    /// An operation of the node's disk fails.
    DiskError {
        /// Operations until then.
        after: u64,
    },
    /// A sync of the node's disk fails, and what it covered is lost though it reads back.
    LostSync {
        /// Operations until then.
        after: u64,
    },
    /// The same, and what it covered is gone from memory too: reads give the bytes of before.
    DroppedPages {
        /// Operations until then.
        after: u64,
    },
    /// A write of the node's disk fails after half of it.
    ShortWrite {
        /// Operations until then.
        after: u64,
    },
    /// Bits that the node's disk held for long flip.
    BitRot {
        /// Chooses the place.
        pick: u64,
    },
    /// A block that the node's disk held for long is zeros.
    ZeroedBlock {
        /// Chooses the place.
        pick: u64,
    },
    /// A block was written to another place than it was meant for, and both are wrong.
    MisdirectedWrite {
        /// Chooses the places.
        pick: u64,
    },
    /// A block that the node's disk held for long cannot be read any more.
    UnreadableBlock {
        /// Chooses the place.
        pick: u64,
    },
    /// After a power cut a segment is gone, or the vote, though its name had been synced.
    LostName {
        /// Chooses the file.
        pick: u64,
    },
    /// After a power cut a replica's whole directory is gone.
    LostDirectory {
        /// Chooses the replica.
        pick: u64,
    },
    /// A read of the node's disk fails, once.
    ReadError {
        /// Reads until then.
        after: u64,
    },
    /// The node's disk answers nothing any more, until the machine is started anew.
    VanishedDisk,
    /// The node's disk has no room.
    FullDisk {
        /// Bytes left.
        left: u64,
    },
    /// Leadership of a partition is handed over.
    Transfer,
    /// A partition's fencing epoch is raised: writers of the one before are refused.
    Fence,
    /// A partition is trimmed.
    Trim {
        /// LSNs to keep below the high watermark.
        keep: u64,
    },
    /// A partition's retention is changed; 0 keeps all.
    Retention {
        /// Keep about so many bytes.
        bytes: u64,
        /// Keep records about so long, in milliseconds.
        ms: u64,
    },
    /// A partition's replicas are to move to other nodes.
    Move {
        /// To how many.
        size: u64,
    },
    /// The process is asked to stop: it hands leadership over and seals its logs.
    CleanStop,
    /// The same for every node, one after the other.
    RollingRestart,
    /// A new broker joins.
    Join,
    /// A broker is lost for good, with its disk, and another joins in its place.
    LoseBroker,
    /// A broker is drained, and removed once it holds nothing.
    Decommission,
    /// A broker gives its replicas away for a while.
    DrainAWhile,
    /// Somebody has a partition moved to any brokers.
    MoveTo,
    /// Somebody gives a move up, or all.
    CancelMoves,
    /// Replicas are spread anew.
    Rebalance,
    /// Whoever leads the metadata dies, if anything moves.
    MetadataLeaderCrash,
}

/// What is the same for all faults of a kind.
struct Character {
    /// In counters and timelines.
    name: &'static str,
    /// The share of seeds that have it, in percent.
    share: u64,
    /// How often it happens in those, at the most.
    times_max: u64,
    /// How long it lasts, in milliseconds.
    for_ms: (u64, u64),
}

const fn character(name: &'static str, share: u64, times_max: u64, for_ms: (u64, u64)) -> Character {
    Character { name, share, times_max, for_ms }
}

const ONCE: (u64, u64) = (0, 0);

impl FaultKind {
    /// Every kind, its numbers not yet drawn.
    pub const ALL: &'static [Self] = &[
        Self::Kill,
        Self::PowerCut,
        Self::PowerCutAll,
        Self::PowerCutAtIo { after: 0 },
        Self::Pause,
        Self::ClockJump { by_ms: 0 },
        Self::Isolate,
        Self::CutOff,
        Self::Deaf,
        Self::Mute,
        Self::PartialPartition,
        Self::Clog,
        Self::Disconnect,
        Self::SlowDisk,
        Self::StalledDisk,
        Self::DiskError { after: 0 },
        Self::LostSync { after: 0 },
        Self::FullDisk { left: 0 },
        Self::Transfer,
        Self::Fence,
        Self::Trim { keep: 0 },
        Self::DroppedPages { after: 0 },
        Self::ShortWrite { after: 0 },
        Self::BitRot { pick: 0 },
        Self::ZeroedBlock { pick: 0 },
        Self::MisdirectedWrite { pick: 0 },
        Self::UnreadableBlock { pick: 0 },
        Self::LostName { pick: 0 },
        Self::LostDirectory { pick: 0 },
        Self::ReadError { after: 0 },
        Self::VanishedDisk,
        Self::Move { size: 0 },
        Self::Retention { bytes: 0, ms: 0 },
        Self::CleanStop,
        Self::RollingRestart,
    ];

    /// Those that happen to clusters of brokers alone.
    pub const OF_BROKERS: &'static [Self] = &[
        Self::Join,
        Self::LoseBroker,
        Self::Decommission,
        Self::DrainAWhile,
        Self::MoveTo,
        Self::CancelMoves,
        Self::Rebalance,
        Self::MetadataLeaderCrash,
    ];

    fn character(self) -> Character {
        match self {
            Self::Kill => character("kill", 70, 20, (20, 600)),
            Self::PowerCut => character("power-cut", 70, 20, (20, 600)),
            Self::PowerCutAll => character("power-cut-all", 30, 2, (20, 500)),
            Self::PowerCutAtIo { .. } => character("power-cut-at-io", 50, 10, (20, 600)),
            Self::Pause => character("pause", 40, 3, (50, 1_500)),
            Self::ClockJump { .. } => character("clock-jump", 30, 3, ONCE),
            Self::Isolate => character("isolate", 40, 4, (50, 2_000)),
            Self::CutOff => character("cut-off", 40, 4, (50, 2_000)),
            Self::Deaf => character("deaf", 25, 3, (50, 1_500)),
            Self::Mute => character("mute", 25, 3, (50, 1_500)),
            Self::PartialPartition => character("partial-partition", 25, 3, (50, 1_500)),
            Self::Clog => character("clog", 25, 3, (20, 500)),
            Self::Disconnect => character("disconnect", 40, 6, ONCE),
            Self::SlowDisk => character("slow-disk", 30, 3, (50, 2_000)),
            Self::StalledDisk => character("stalled-disk", 30, 3, (50, 1_500)),
            Self::DiskError { .. } => character("disk-error", 25, 3, ONCE),
            Self::LostSync { .. } => character("lost-sync", 25, 3, ONCE),
            Self::DroppedPages { .. } => character("dropped-pages", 20, 3, ONCE),
            Self::ShortWrite { .. } => character("short-write", 20, 3, ONCE),
            Self::BitRot { .. } => character("bit-rot", 30, 6, ONCE),
            Self::ZeroedBlock { .. } => character("zeroed-block", 20, 4, ONCE),
            Self::MisdirectedWrite { .. } => character("misdirected-write", 20, 4, ONCE),
            Self::UnreadableBlock { .. } => character("unreadable-block", 20, 3, ONCE),
            Self::LostName { .. } => character("lost-name", 30, 4, (20, 800)),
            Self::LostDirectory { .. } => character("lost-directory", 40, 3, (20, 800)),
            Self::ReadError { .. } => character("read-error", 20, 4, ONCE),
            Self::VanishedDisk => character("vanished-disk", 15, 2, (50, 1_500)),
            Self::FullDisk { .. } => character("full-disk", 20, 2, (200, 1_500)),
            Self::Transfer => character("transfer", 30, 4, ONCE),
            Self::Fence => character("fence", 30, 4, ONCE),
            Self::Trim { .. } => character("trim", 30, 4, ONCE),
            Self::Move { .. } => character("move", 30, 8, ONCE),
            Self::Retention { .. } => character("retention", 20, 4, ONCE),
            Self::CleanStop => character("clean-stop", 30, 6, (20, 600)),
            Self::RollingRestart => character("rolling-restart", 20, 2, (20, 300)),
            Self::Join => character("join", 80, 2, ONCE),
            Self::LoseBroker => character("lose-broker", 40, 2, ONCE),
            Self::Decommission => character("decommission", 50, 2, ONCE),
            Self::DrainAWhile => character("drain-a-while", 40, 3, (100, 2_000)),
            Self::MoveTo => character("move-to", 70, 10, ONCE),
            Self::CancelMoves => character("cancel-moves", 50, 6, ONCE),
            Self::Rebalance => character("rebalance", 40, 3, ONCE),
            Self::MetadataLeaderCrash => character("metadata-leader-crash", 60, 8, ONCE),
        }
    }

    /// Whether it takes away what a disk has held for long, for good or for a while.
    pub(crate) fn is_damage(self) -> bool {
        matches!(
            self,
            Self::BitRot { .. }
                | Self::ZeroedBlock { .. }
                | Self::MisdirectedWrite { .. }
                | Self::UnreadableBlock { .. }
                | Self::LostName { .. }
                | Self::LostDirectory { .. }
                | Self::ReadError { .. }
                | Self::VanishedDisk
        )
    }

    /// Whether it happens to clusters of brokers alone.
    pub(crate) fn is_of_brokers(self) -> bool {
        Self::OF_BROKERS.iter().any(|kind| kind.name() == self.name())
    }

    /// Whether a broker joins for it.
    pub(crate) fn brings_a_broker(self) -> bool {
        matches!(self, Self::Join | Self::LoseBroker)
    }

    /// Its name, in counters and timelines.
    pub fn name(self) -> &'static str {
        self.character().name
    }

    /// The share of seeds that have it, in percent.
    pub(crate) fn share(self) -> u64 {
        self.character().share
    }

    /// How often it happens in those, at the most.
    pub(crate) fn times_max(self) -> u64 {
        self.character().times_max
    }

    /// How long it lasts, in milliseconds.
    pub(crate) fn draw_duration_ms(self, random: &mut Random) -> u64 {
        let (from, to) = self.character().for_ms;
        from + random.below(to - from + 1)
    }

    /// The kind with its numbers drawn.
    pub(crate) fn draw(self, random: &mut Random) -> Self {
        match self {
            Self::PowerCutAtIo { .. } => Self::PowerCutAtIo { after: 1 + random.below(30) },
            Self::DiskError { .. } => Self::DiskError { after: 1 + random.below(20) },
            Self::LostSync { .. } => Self::LostSync { after: 1 + random.below(20) },
            Self::DroppedPages { .. } => Self::DroppedPages { after: 1 + random.below(20) },
            Self::ShortWrite { .. } => Self::ShortWrite { after: 1 + random.below(20) },
            Self::BitRot { .. } => Self::BitRot { pick: random.next_u64() },
            Self::ZeroedBlock { .. } => Self::ZeroedBlock { pick: random.next_u64() },
            Self::MisdirectedWrite { .. } => Self::MisdirectedWrite { pick: random.next_u64() },
            Self::UnreadableBlock { .. } => Self::UnreadableBlock { pick: random.next_u64() },
            Self::LostName { .. } => Self::LostName { pick: random.next_u64() },
            Self::LostDirectory { .. } => Self::LostDirectory { pick: random.next_u64() },
            Self::ReadError { .. } => Self::ReadError { after: 1 + random.below(40) },
            Self::FullDisk { .. } => Self::FullDisk { left: random.below(40_000) },
            Self::ClockJump { .. } => {
                let by_ms = 1 << random.below(32);
                Self::ClockJump { by_ms: if random.below(2) == 0 { by_ms } else { -by_ms } }
            }
            Self::Trim { .. } => Self::Trim { keep: random.below(200) },
            Self::Retention { .. } => Self::Retention {
                bytes: [0, 32 << 10, 128 << 10][random.below(3) as usize],
                ms: [0, 0, 500, 2_000][random.below(4) as usize],
            },
            Self::Move { .. } => {
                let size = [1, 2, 3, 3, 3, 3, 3, 4][random.below(8) as usize];
                Self::Move { size }
            }
            plain => plain,
        }
    }
}
