//! What a group is told and tells, in words of our own.

/// How a group behaves. Times are counted in ticks.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// This node's id in the group, never 0.
    pub node: u64,
    /// The node that asks first where nobody leads, if it votes.
    pub preferred: Option<u64>,
    /// Whose turn it is then is shifted by this, so that the leaders of many groups spread.
    pub rotation: u64,
    /// A follower that hears nothing for this long, up to twice as long, asks for votes.
    pub election_ticks: usize,
    /// A leader speaks at least this often; where a follower has not confirmed all it was sent, every other tick.
    pub heartbeat_ticks: usize,
    /// Body and envelope bytes in one append message, at least one entry.
    pub message_bytes_max: u64,
    /// A leader that commits so many entries in a tick says so with the next ones it sends, which come soon, and not by itself:
    /// of the messages of a single record in flight that is every other one. What is left to say, the next tick says.
    pub busy_commits: u64,
    /// Append messages on their way to one follower.
    pub inflight_messages_max: usize,
}

/// What a node is in its group at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Stamps LSNs and replicates.
    Leader,
    /// Follows.
    #[default]
    Follower,
    /// Asks for votes, or whether asking would succeed.
    Candidate,
}

/// Why a peer's message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A type no peer may send.
    #[error("message type {kind} is not one that brokers exchange; do all brokers run the same version?")]
    UnknownMessage {
        /// The type on the wire.
        kind: u8,
    },
    /// An entry type we do not know.
    #[error("entry type {kind} is unknown; do all brokers run the same version?")]
    UnknownEntry {
        /// The type on the wire.
        kind: u8,
    },
    /// A leader believes we hold entries that we do not: synced entries of this replica were lost.
    #[error(
        "the leader committed index {commit}, which this replica once acknowledged, but its log ends at {last_index}: \
         acknowledged entries are missing here; restore them from a peer before this replica takes part again"
    )]
    CommitBeyondLog {
        /// What the leader says is committed here.
        commit: u64,
        /// Where this log ends.
        last_index: u64,
    },
    /// An entry is not what its checksum says.
    #[error("entry {index} was damaged on the way: {why}")]
    Damaged {
        /// The entry's index.
        index: u64,
        /// What does not match.
        why: String,
    },
    /// Not for this group, or out of date; dropping it is right.
    #[error("ignored: {0}")]
    Ignored(String),
}

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead, or is handing leadership over.
    #[error("this node does not lead the group")]
    NotLeader,
    /// A change of the membership is under way, and there is one at a time.
    #[error("a change of the membership is under way")]
    ChangeUnderWay,
}

/// One change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// Make the node a voter.
    AddVoter(u64),
    /// Let the node follow without a vote.
    AddLearner(u64),
    /// Take the node out.
    Remove(u64),
}

/// How far one replica is, as the leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaProgress {
    /// The replica's node.
    pub node: u64,
    /// Through this index it is known to have synced.
    pub matched_index: u64,
    /// The next index it will be sent.
    pub next_index: u64,
    /// Entries it is behind.
    pub lag_entries: u64,
    /// About how many bytes of log those are.
    pub lag_bytes: u64,
    /// `probe`, `replicate` or `snapshot`.
    pub state: &'static str,
    /// Whether it answered within the last election timeout.
    pub recent_active: bool,
}

/// Why a group could not start.
#[derive(Debug, thiserror::Error)]
#[error("the Raft group cannot start: {0}")]
pub struct StartError(pub(super) String);
