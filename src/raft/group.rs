//! One Raft group of one node.

mod changes;
mod election;

use std::collections::BTreeSet;

use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::peer::RaftMessage;
use lockstep_storage::{Checkpoint, Entry, EntryKind, Log, Vote};
use raft::{
    Config, Error, RawNode, ReadOnlyOption, StateRole,
    eraftpb::{self, HardState, MessageType},
};

use super::{
    Membership,
    haste::Haste,
    message,
    rest::Rest,
    store::{CatchingUp, ColdRead, ColdReadId, LogStore},
    types::{GroupOptions, ProposeError, ReplicaProgress, Role, StartError, StepError},
};
use crate::random::Random;
use changes::VotedBefore;
pub use changes::{added_by, names};

/// How often a leader speaks while a follower has not confirmed all it was sent, in ticks.
const REPEAT_TICKS: u64 = 2;
/// Committed entries are handed back as stubs; this bounds how many at a time.
const COMMITTED_STUB_BYTES_MAX: u64 = 1 << 20;

/// What a group wants done; see the duties in the module's documentation.
pub struct Ready {
    /// Grows by one with each.
    pub number: u64,
    /// Need no sync of ours: out at once.
    pub messages: Vec<RaftMessage>,
    /// Replace the log by this.
    pub snapshot: Option<Checkpoint>,
    /// To be appended, after what they replace has been rolled back.
    pub entries: Vec<Entry>,
    /// To be synced before the held messages leave.
    pub vote: Option<(u64, u64)>,
    /// Membership entries that are committed and synced here, in order.
    pub membership: Vec<Entry>,
    /// Speak of what this ready asked to be synced.
    pub held_messages: Vec<RaftMessage>,
    /// Contexts of reads whose leadership a quorum confirmed.
    pub reads: Vec<u64>,
    snapshots_to: Vec<u64>,
    committed_index: u64,
    raw: raft::Ready,
}

/// One Raft group of one node, over the log that it shares with the data.
pub struct Group {
    node: RawNode<LogStore>,
    random: Random,
    /// The election timeout drawn for this (term, role).
    timeout: ((u64, StateRole), usize),
    /// Through this index committed entries were handed out, or a snapshot stands for them.
    apply_to: u64,
    /// The replica takes part in elections once its log ends in an entry of a later term; 0 if at once.
    takes_part_behind: u64,
    voted_before: VotedBefore,
    /// Set while nobody is known to lead and there is reason not to wait for the election timeout.
    haste: Option<Haste>,
    rest: Rest,
    ticks: u64,
    /// What was committed at the last tick.
    committed_at_tick: u64,
    options: GroupOptions,
}

impl Group {
    /// A group over a log that is recovered and synced. `commit` is what is known to be committed, `applied` the index
    /// that `membership` is of; committed membership entries after it come again in a [`Ready`].
    pub fn start(
        options: GroupOptions,
        log: Log,
        membership: Membership,
        vote: Vote,
        applied: u64,
        commit: u64,
        random: Random,
    ) -> Result<Self, StartError> {
        let config = Config {
            id: options.node,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            max_size_per_msg: options.message_bytes_max,
            max_inflight_msgs: options.inflight_messages_max,
            max_committed_size_per_ready: COMMITTED_STUB_BYTES_MAX,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            applied,
            ..Config::default()
        };
        let commit = commit.clamp(log.first_index() - 1, log.last_index());
        let start = HardState { term: vote.term, vote: vote.voted_for, commit, ..HardState::default() };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, LogStore::new(log, start, membership), &logger)
            .map_err(|error| StartError(error.to_string()))?;
        let mut group = Self {
            node,
            random,
            timeout: ((u64::MAX, StateRole::Follower), 0),
            apply_to: applied,
            takes_part_behind: 0,
            voted_before: VotedBefore::default(),
            haste: None,
            rest: Rest::new(options.election_ticks),
            ticks: 0,
            committed_at_tick: commit,
            options,
        };
        group.pin_timeout();
        Ok(group)
    }

    /// The log. Mutations are the host's, in the order of its duties.
    pub fn log(&self) -> &Log {
        &self.node.store().log
    }

    /// The log, to be changed.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.node.mut_store().log
    }

    /// What this node is.
    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        }
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The leader of the current term, if known.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|leader| *leader != 0)
    }

    /// The committed index.
    pub fn commit(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Through this index committed entries are synced here and done with.
    pub fn applied(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// Whether this leader has committed an entry of its own term; before that it cannot confirm reads.
    pub fn has_committed_in_term(&self) -> bool {
        self.node.raft.commit_to_current_term()
    }

    /// The node that leadership is being handed to.
    pub fn transferee(&self) -> Option<u64> {
        self.node.raft.lead_transferee
    }

    /// Time passes: more slowly for a group at rest.
    pub fn tick(&mut self) {
        if !self.rest.counts() || self.awaits_snapshot() || self.abstains() || self.would_lead_unsynced() {
            return;
        }
        self.ticks += 1;
        self.hasten();
        // Before the library's tick, which may forget who answers.
        let commits_untold = self.has_untold_commits();
        self.node.tick();
        self.repeat_unconfirmed(commits_untold);
        self.pace_commits();
        self.pin_timeout();
        self.rest.note(self.is_quiet());
    }

    /// How many of the next ticks do nothing, if nothing else comes up.
    pub fn spare_ticks(&self) -> u64 {
        if !self.is_quiet() {
            return 0;
        }
        let raft = &self.node.raft;
        let to_election = self.timeout.1.saturating_sub(raft.election_elapsed);
        let counted = match raft.state {
            StateRole::Leader => {
                let to_heartbeat = raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed());
                to_heartbeat.min(raft.election_timeout().saturating_sub(raft.election_elapsed))
            }
            _ => to_election,
        };
        self.rest.ticks_before(counted.max(1) as u64)
    }

    /// Whether nothing is under way; see the module on rest.
    fn is_quiet(&self) -> bool {
        let raft = &self.node.raft;
        let log = &raft.raft_log;
        let last_index = log.last_index();
        let settled = log.committed == last_index && log.persisted == last_index && log.applied == last_index;
        if raft.leader_id == raft::INVALID_ID || self.haste.is_some() || !settled || self.abstains() {
            return false;
        }
        match raft.state {
            StateRole::Leader => raft.lead_transferee.is_none() && !self.has_unconfirmed(),
            StateRole::Follower => true,
            _ => false,
        }
    }

    /// A message that was lost is repeated when its follower answers a heartbeat. Idle groups speak rarely; those with
    /// something on its way must not wait that long, and what was committed without a word even less.
    fn repeat_unconfirmed(&mut self, commits_untold: bool) {
        let is_due = self.ticks.is_multiple_of(REPEAT_TICKS) && self.has_unconfirmed();
        if self.role() == Role::Leader && (is_due || commits_untold) {
            self.node.ping();
        }
    }

    /// Whether this leader knows of a follower that has what is committed and does not know it.
    fn has_untold_commits(&self) -> bool {
        let (node, commit) = (self.options.node, self.commit());
        let is_untold = |(id, progress): (&u64, &raft::Progress)| {
            let has = progress.matched.min(commit);
            *id != node && progress.recent_active && progress.committed_index < has
        };
        self.role() == Role::Leader && self.node.raft.prs().iter().any(is_untold)
    }

    /// Decides whether this leader tells its followers of each commit by itself, until the next tick.
    fn pace_commits(&mut self) {
        let committed = self.commit().saturating_sub(self.committed_at_tick);
        self.committed_at_tick = self.commit();
        self.node.skip_bcast_commit(committed >= self.options.busy_commits);
    }

    /// Whether this leader waits for others: for the answers to a read, or for one that answers to hold everything and to
    /// know what of it is committed.
    fn has_unconfirmed(&self) -> bool {
        let (node, last_index, commit) = (self.options.node, self.log().last_index(), self.commit());
        let raft = &self.node.raft;
        let is_behind = |(id, progress): (&u64, &raft::Progress)| {
            let is_level = progress.matched >= last_index && progress.committed_index >= commit;
            *id != node && progress.recent_active && !is_level
        };
        raft.pending_read_count() > 0 || raft.prs().iter().any(is_behind)
    }

    /// Whether something came up that the host has to be told; see [`Group::ready`].
    pub fn has_ready(&self) -> bool {
        self.node.has_ready()
    }

    /// Whether a snapshot was installed that is not synced yet. Whoever asks for votes meanwhile looks for entries before
    /// it that are gone, and the library panics.
    fn awaits_snapshot(&self) -> bool {
        self.applied() + 1 < self.log().first_index()
    }

    /// Notes how far the voters have come, so that what is read below that is known to be for a learner.
    fn note_voters(&mut self) {
        let raft = &self.node.raft;
        let learns = self.role() == Role::Leader && !raft.prs().conf().learners().is_empty();
        let replicating = raft.prs().iter().filter(|(id, progress)| {
            raft.prs().conf().voters().contains(**id) && progress.state == raft::ProgressState::Replicate
        });
        let matched = replicating.map(|(_, progress)| progress.matched).min();
        self.node.mut_store().voters_have = matched.filter(|_| learns).unwrap_or(0);
    }

    /// A message of a peer.
    pub fn step(&mut self, message: RaftMessage) -> Result<(), StepError> {
        let message = message::from_wire(message)?;
        message::check_plausible(&message, self.options.node)?;
        message::check_snapshot(&message)?;
        let last_index = self.log().last_index();
        let is_heartbeat = message.msg_type == MessageType::MsgHeartbeat;
        if is_heartbeat && message.term >= self.term() && message.commit > last_index {
            return Err(StepError::CommitBeyondLog { commit: message.commit, last_index });
        }
        let message = self.misread(message);
        let beats =
            [MessageType::MsgHeartbeat, MessageType::MsgHeartbeatResponse].contains(&message.msg_type);
        if !beats || message.term != self.term() || !message.context.is_empty() {
            self.rest.wake();
        }
        let unsynced = self.awaits_snapshot() || self.would_lead_unsynced();
        if message.msg_type == MessageType::MsgTimeoutNow && unsynced {
            return Err(StepError::Ignored("what it has is not synced yet".into()));
        }
        let elects =
            [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote, MessageType::MsgTimeoutNow];
        let asks = elects.contains(&message.msg_type);
        if asks && self.abstains() {
            return Err(StepError::Ignored("it may lack what the one before had".into()));
        }
        self.note_voters();
        let outdone = self.is_outdone_by_newcomer(&message);
        let result = self.node.step(message);
        if outdone {
            self.stand_again();
        }
        if asks && self.role() == Role::Leader {
            // Whoever asks has not heard of this leader, or believes it dead.
            self.node.ping();
        }
        self.pin_timeout();
        result.map_err(|error| StepError::Ignored(error.to_string()))
    }

    /// The message as it is, unless a bug of the library's own is planted: then one that has the bug's effect.
    fn misread(&mut self, mut message: eraftpb::Message) -> eraftpb::Message {
        let asks_for_vote =
            matches!(message.msg_type, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote);
        if asks_for_vote && planted::is_active(Bug::CompareOnlyIndexInVotes) {
            message.log_term = self.log().last_term();
        }
        if message.msg_type == MessageType::MsgAppend && planted::is_active(Bug::CommitToLeadersWord) {
            let commit = message.commit.min(self.log().last_index());
            self.node.raft.raft_log.commit_to(commit);
        }
        message
    }

    /// Appends entries of this leader, all or none; they come back in the next [`Ready`] under the indexes that follow
    /// the log's last.
    pub fn propose(&mut self, entries: Vec<(Bytes, Bytes)>) -> Result<(), ProposeError> {
        if self.role() != Role::Leader && !planted::is_active(Bug::ForwardStampedProposal) {
            return Err(ProposeError::NotLeader);
        }
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(envelope, body)| eraftpb::Entry { context: envelope, data: body, ..Default::default() })
            .collect();
        let proposal = eraftpb::Message {
            msg_type: MessageType::MsgPropose,
            from: self.options.node,
            entries: entries.into(),
            ..Default::default()
        };
        self.rest.wake();
        let result = self.node.step(proposal);
        self.pin_timeout();
        result.map_err(|_: Error| ProposeError::NotLeader)
    }

    /// Hands leadership to `node` once it has caught up.
    pub fn transfer(&mut self, node: u64) {
        self.rest.wake();
        self.node.transfer_leader(node);
        self.pin_timeout();
    }

    /// Asks a quorum whether this node still leads; `context` comes back in [`Ready::reads`]. Contexts are unique.
    pub fn confirm_leadership(&mut self, context: u64) {
        self.rest.wake();
        self.node.read_index(context.to_le_bytes().to_vec());
        self.pin_timeout();
    }

    /// What the group wants done, if anything.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.node.has_ready() {
            return None;
        }
        let mut raw = self.node.ready();
        let messages = to_peers(raw.take_messages());
        let held_messages = to_peers(raw.take_persisted_messages());
        let snapshot = Some(raw.snapshot()).filter(|snapshot| snapshot.get_metadata().index != 0);
        let ready = Ready {
            number: raw.number(),
            committed_index: raw.committed_entries().last().map_or(0, |entry| entry.index),
            snapshots_to: messages.iter().filter(|m| m.snapshot.is_some()).map(|m| m.to).collect(),
            messages,
            snapshot: snapshot.and_then(|snapshot| Checkpoint::decode(&snapshot.data)),
            entries: raw.take_entries().into_iter().map(message::entry_from_raft).collect(),
            vote: raw.hs().filter(|_| raw.must_sync()).map(|state| (state.term, state.vote)),
            membership: raw
                .take_committed_entries()
                .into_iter()
                .map(message::entry_from_raft)
                .filter(|entry| entry.kind != EntryKind::Normal)
                .collect(),
            held_messages,
            reads: raw.take_read_states().iter().filter_map(|read| context_of(&read.request_ctx)).collect(),
            raw,
        };
        Some(ready)
    }

    /// The ready's work is done or queued. A snapshot is one small message: as soon as it is sent the follower is
    /// probed behind it, and a lost one shows as a rejection.
    pub fn advance(&mut self, ready: Ready) {
        let snapshot_index = ready.raw.snapshot().get_metadata().index;
        self.apply_to = self.apply_to.max(snapshot_index).max(ready.committed_index);
        self.node.advance_append_async(ready.raw);
        self.advance_apply();
        for node in ready.snapshots_to {
            self.node.report_snapshot(node, raft::SnapshotStatus::Finish);
        }
        self.pin_timeout();
    }

    /// Everything asked for by readies up to `number` is synced.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        self.advance_apply();
        self.pin_timeout();
    }

    /// Nothing is applied before it is persisted: a snapshot that was just installed has to wait for its sync.
    fn advance_apply(&mut self) {
        let log = &self.node.raft.raft_log;
        let target = self.apply_to.min(log.persisted).min(log.committed);
        if target > log.applied {
            self.node.advance_apply_to(target);
        }
    }

    /// Cold reads that came up since the last call; `appended_bytes` is what the log has grown by since it was opened.
    pub fn take_cold_reads(&mut self, appended_bytes: u64) -> Vec<ColdRead> {
        let mut reads = self.node.mut_store().take_cold_reads();
        reads.retain_mut(|read| {
            let learner = self.only_learner_at(read.low);
            read.learner = learner.map(|learner| CatchingUp { learner, appended_bytes });
            self.node.mut_store().keep_cold_read(read)
        });
        reads
    }

    /// A learner that wants what begins at an index, if no voter does.
    fn only_learner_at(&self, index: u64) -> Option<u64> {
        let prs = self.node.raft.prs();
        let wants = prs.iter().filter(|(_, progress)| progress.next_idx == index);
        let wanted_by: BTreeSet<u64> = wants.map(|(node, _)| *node).collect();
        let learns = wanted_by.iter().all(|node| prs.conf().learners().contains(node));
        wanted_by.first().copied().filter(|_| learns)
    }

    /// Entries of a cold read, or nothing if it failed and is to be asked again.
    pub fn cold_read_done(&mut self, id: ColdReadId, entries: Option<Vec<Entry>>) {
        match entries {
            None => self.node.mut_store().cold_read_failed(id),
            Some(entries) => {
                if let Some(context) = self.node.mut_store().cold_read_done(id, entries) {
                    self.node.on_entries_fetched(context);
                }
                self.node.mut_store().drop_fetched();
            }
        }
        self.pin_timeout();
    }

    /// The first index of the current term, that of its leader's first entry; nothing if that is not in the log.
    pub fn term_begins_at(&self) -> Option<u64> {
        self.log().first_of_term(self.term())
    }

    /// Through which index this leader counts a replica's copy; 0 for one it does not know.
    pub fn matched(&self, node: u64) -> u64 {
        self.node.raft.prs().get(node).map_or(0, |progress| progress.matched)
    }

    /// How far each other replica is; empty unless this node leads.
    pub fn progress(&self) -> Vec<ReplicaProgress> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let last_index = self.log().last_index();
        let mut replicas: Vec<_> = self
            .node
            .raft
            .prs()
            .iter()
            .map(|(node, progress)| ReplicaProgress {
                node: *node,
                matched_index: progress.matched,
                next_index: progress.next_idx,
                lag_entries: last_index.saturating_sub(progress.matched),
                lag_bytes: self.log().bytes_from(progress.matched + 1),
                state: match progress.state {
                    raft::ProgressState::Probe => "probe",
                    raft::ProgressState::Replicate => "replicate",
                    raft::ProgressState::Snapshot => "snapshot",
                },
                recent_active: progress.recent_active || *node == self.options.node,
            })
            .collect();
        replicas.sort_unstable_by_key(|replica| replica.node);
        replicas
    }
}

fn to_peers(messages: Vec<eraftpb::Message>) -> Vec<RaftMessage> {
    let keep = |message: &eraftpb::Message| {
        message.msg_type != MessageType::MsgPropose || planted::is_active(Bug::ForwardStampedProposal)
    };
    messages.into_iter().filter(keep).map(message::to_wire).collect()
}

fn context_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
