//! One replica of one log: the synchronous, deterministic core that production and the simulator both wrap.
//!
//! What holds here:
//! - A shard reads no clock, no random source, no network and no disk: time, chance and messages are handed in, and
//!   what it wants done comes out as [`Output`]s.
//! - LSNs are 1, 2, 3 … without a gap: a batch's first LSN is stamped by the leader as the log's next one, and checked
//!   by every replica as it is appended.
//! - A request is answered once, after everything its answer stands on is committed; see [`waiters`].
//! - At most one write group is on its way to the disk. What comes in meanwhile becomes the next one: group commit.
//!
//! The way of a produce request: [`Shard::step`] queues it; [`propose`] judges and stamps it; [`turn`] drains the Raft
//! group, which sends it to the followers and appends it to the log, and hands the log's queue to the disk; the
//! followers' acknowledgements and the own sync commit it; [`waiters`] release its answer.

mod backlog;
pub mod command;
mod former;
mod open;
pub mod positions;
pub mod producers;
mod propose;
mod rebuild;
pub mod state;
mod surveyed;
mod turn;
mod types;
pub mod waiters;

use std::collections::VecDeque;

use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::peer::RaftMessage;
use lockstep_storage::{Checkpoint, Log, LogReader};

use crate::{
    raft::{Group, Membership, Role, added_by},
    random::Random,
};
use backlog::Backlog;
pub use former::Former;
pub use open::{OpenError, ShardOptions, create, genesis};
pub use propose::PROPOSAL_BYTES_MAX;
use propose::Request;
pub use rebuild::{Rebuild, RebuildError, checkpoint_at};
use state::ShardState;
pub use surveyed::Surveyed;
pub use types::{
    Answer, Append, AppendError, Appended, Command, Event, Health, Input, Output, ShardDescription, ShardId,
    ShardView, Token,
};
use waiters::Waiters;

/// The token of a request that nobody waits for.
pub const NOBODY: Token = 0;
/// How often a leader looks whether something is old enough to go, in ticks.
const RETENTION_TICKS: u64 = 100;

/// What may be changed while a shard runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardSettings {
    /// Keep at most about this many bytes; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// Keep records for at least this long; `None` keeps all.
    pub retention_ms: Option<u64>,
}

/// One replica of one log.
pub struct Shard {
    id: ShardId,
    node: u64,
    segment_bytes: u64,
    settings: ShardSettings,
    random: Random,

    group: Group,
    state: ShardState,
    membership: Membership,
    membership_index: u64,
    /// A learner only because it was given a snapshot of before its time: no membership that it knows names it. What it writes
    /// down of the membership must not either, or whoever gets a snapshot of that has a learner that nobody made.
    is_guest: bool,
    /// The entry before that made the same membership.
    membership_confirmed: bool,

    requests: VecDeque<(Token, Request)>,
    waiters: Waiters,
    /// Messages that speak of a sync, under the number of the ready they came with.
    held: VecDeque<(u64, RaftMessage)>,
    /// The newest ready, the newest covered by the group in flight, and the newest that is durable.
    last_ready: u64,
    in_flight_ready: u64,
    persisted_ready: u64,
    /// The newest ready that changed the term or the vote.
    vote_ready: u64,
    backlog: Backlog,
    /// The log start whose segments are dropped.
    trimmed_to: u64,

    led_term: Option<u64>,
    tick_ms: u64,
    seal_ticks: u64,
    ticks: u64,
    /// The last index, and the tick at which it was first seen.
    newest: (u64, u64),
    disk_full: bool,
    /// The tick from which on a full disk makes this leader hand over (again).
    step_down_tick: u64,
    broken: Option<Health>,
    view: ShardView,
}

impl Shard {
    /// Its id.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Reads of its log, from any thread.
    pub fn reader(&self) -> LogReader {
        self.group.log().reader()
    }

    /// The oldest checkpoint kept: what a replica without any log begins from.
    pub fn oldest_checkpoint(&self) -> &Checkpoint {
        self.group.log().oldest_checkpoint()
    }

    /// Its log, to be looked at.
    pub fn log(&self) -> &Log {
        self.group.log()
    }

    /// All that it keeps of what its log says: the same bytes wherever the same log stands.
    pub fn derived_state(&self) -> Bytes {
        self.state.derived()
    }

    /// Through this Raft index this log's syncs have returned.
    pub fn synced_index(&self) -> u64 {
        self.group.log().synced_index()
    }

    /// What everyone may know of it, as of the last turn.
    pub fn view(&self) -> &ShardView {
        &self.view
    }

    /// It in detail.
    pub fn describe(&self) -> ShardDescription {
        let log = self.group.log();
        let membership = self.group.membership();
        ShardDescription {
            shard: self.id,
            role: self.group.role(),
            view: self.view.clone(),
            voters: membership.voters,
            learners: membership.learners,
            voters_outgoing: membership.voters_outgoing,
            membership_index: self.membership_index,
            membership_confirmed: self.membership_confirmed,
            membership_pending: !self.state.unapplied_membership().is_empty()
                || self.group.membership_pending(),
            term_begins_at: self.group.term_begins_at().unwrap_or(0),
            first_index: log.first_index(),
            last_index: log.last_index(),
            commit_index: self.group.commit(),
            synced_index: log.synced_index(),
            last_lsn: log.last_lsn(),
            log_bytes: log.log_bytes(),
            producers: self.state.producer_count(),
            positions: self.state.position_count(),
            replicas: self.group.progress(),
        }
    }

    /// Whether this replica may go, as whoever leads said who knew the membership of that index: not if it knows of a
    /// later one, which may have taken it in again.
    pub fn may_be_dropped(&self, membership_index: u64) -> bool {
        let newest = self.state.unapplied_membership().last().map_or(0, |entry| entry.index);
        newest.max(self.membership_index) <= membership_index
    }

    /// What this replica may have promised to others, for another on this node once this one is gone.
    pub fn promised(&self) -> Former {
        Former { term: self.group.term() }
    }

    /// Index of the entry that made the membership in force here.
    pub fn membership_index(&self) -> u64 {
        self.membership_index
    }

    /// The members in force here.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Who votes, or is about to: by the membership in force here, and by entries that are not in force yet. Of a leader, those
    /// too that vote no more and may win an election yet.
    pub fn voters(&self) -> Vec<u64> {
        let Membership { voters, voters_outgoing, .. } = &self.membership;
        let added = self.state.unapplied_membership().iter().flat_map(added_by);
        let now = voters.iter().chain(voters_outgoing).copied();
        let mut voters: Vec<u64> = now.chain(added).chain(self.group.voted_before()).collect();
        voters.sort_unstable();
        voters.dedup();
        voters
    }

    fn health_stops_raft(&self) -> bool {
        self.broken.is_some()
    }

    /// Takes no further part: says so to everyone who waits, and from now on.
    pub fn stop(&mut self, health: Health, outputs: &mut Vec<Output>) {
        let error = refusal_of(&health);
        self.broken = Some(health);
        if planted::is_active(Bug::AcknowledgeAfterFailedSync) {
            outputs.extend(self.held.drain(..).map(|(_, message)| Output::Send(message)));
        }
        self.held.clear();
        self.waiters.fail_all(&AppendError::OutcomeUnknown, outputs);
        let requests = std::mem::take(&mut self.requests);
        outputs.extend(requests.into_iter().map(|(token, _)| Output::Answer(token, Err(error.clone()))));
        self.publish(outputs);
    }

    /// Answers what comes to a stopped shard.
    fn refuse(&mut self, input: Input, outputs: &mut Vec<Output>) {
        if let Some(token) = token_of(&input) {
            let error = self.broken.as_ref().map_or(AppendError::Stopped, refusal_of);
            outputs.push(Output::Answer(token, Err(error)));
        } else if let Input::Synced(outcome) = input {
            // The latch is set; this only lets the log say so too.
            let _ = self.group.log_mut().group_done(outcome);
        }
    }

    /// A snapshot replaces the log and everything derived from it.
    fn install(&mut self, checkpoint: Checkpoint, outputs: &mut Vec<Output>) -> Result<(), Health> {
        let unreadable =
            || Health::Failed(format!("the snapshot at index {} does not read", checkpoint.index));
        self.state = ShardState::from_checkpoint(&checkpoint).ok_or_else(unreadable)?;
        self.membership = Membership::decode(&checkpoint.membership).map_err(|_| unreadable())?;
        self.membership_index = checkpoint.membership_index;
        self.is_guest = !self.membership.nodes().contains(&self.node);
        self.membership_confirmed = false;
        self.backlog = Backlog::default();
        self.waiters.fail_all(&AppendError::OutcomeUnknown, outputs);
        outputs.push(Output::Event(Event::SnapshotInstalled { index: checkpoint.index }));
        let nonce = self.random.nonce();
        self.group.log_mut().install(checkpoint, nonce).map_err(|error| Health::Failed(error.to_string()))
    }

    fn publish(&mut self, outputs: &mut Vec<Output>) {
        let committed = self.state.committed();
        let broken = self.broken.clone();
        let full = if self.disk_full { Health::Full } else { Health::Ok };
        let leads = broken.is_none() && self.group.role() == Role::Leader;
        // What was dropped had been committed, even where this run has not yet heard so.
        let log_start = self.group.log().log_start().max(committed.log_start);
        let served_ahead = planted::is_active(Bug::ServeAboveHighWatermark);
        let last_lsn = if served_ahead { self.state.next_lsn() - 1 } else { committed.last_lsn };
        let view = ShardView {
            high_watermark: last_lsn.max(log_start.saturating_sub(1)),
            log_start,
            term: self.group.term(),
            leader: self.group.leader().filter(|leader| leads || *leader != self.node),
            is_leader: leads,
            fence: self.state.fence(),
            leader_time_ms: committed.leader_time_ms,
            health: broken.unwrap_or(full),
        };
        assert!(view.high_watermark >= self.view.high_watermark, "the high watermark never goes back");
        if view != self.view {
            self.view = view.clone();
            outputs.push(Output::View(view));
        }
    }
}

/// Who waits for an answer to an input, if anybody does.
pub fn token_of(input: &Input) -> Option<Token> {
    match input {
        Input::Append { token, .. }
        | Input::Command { token, .. }
        | Input::Positions { token, .. }
        | Input::Membership { token, .. }
        | Input::Tail { token }
        | Input::Standing { token, .. }
        | Input::Transfer { token, .. }
        | Input::HandOver { token } => Some(*token),
        _ => None,
    }
}

/// What a request is told where a replica takes none.
pub fn refusal_of(health: &Health) -> AppendError {
    match health {
        Health::Faulty(why) => AppendError::Faulty(why.clone()),
        Health::Failed(why) => AppendError::Failed(why.clone()),
        Health::Full => AppendError::StorageFull,
        Health::Ok => AppendError::Stopped,
    }
}
