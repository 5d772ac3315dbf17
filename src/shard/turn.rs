//! The turn: what a shard does with what came in, as one synchronous, deterministic step.
//!
//! ```text
//! steps       tick | peer message | request | group synced | cold read done
//! then, until nothing moves any more:
//!   drain     messages that need no sync      -> out: the leader replicates before its own sync
//!             snapshot, entries, vote         -> the log's queue; readable at once
//!             committed membership entries    -> applied
//!             messages that speak of a sync   -> held under the ready's number
//!             committed index                 -> high watermark, answers
//!   propose   requests that wait              -> judged, stamped, one proposal
//!   submit    the log's queue, if no group is in flight -> one write, one sync, off the turn
//! ```

use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::peer::{Confirmed, WireEntry};
use lockstep_storage::{Checkpoint, Entry, EntryKind, Envelope, GroupOutcome, Vote};

use super::{
    Shard, command,
    propose::Request,
    types::{Answer, AppendError, Event, Health, Input, Output},
    waiters::Confirm,
};
use crate::raft::{Membership, ProposeError, Ready, ReplicaProgress, Role, StepError, names};

/// How often a leader whose disk is full hands over: the next one's may be full too, and would hand it back.
const STEP_DOWN_TICKS: u64 = 200;

impl Shard {
    /// Takes one input in. Its consequences come with the next [`Shard::turn`].
    pub fn step(&mut self, input: Input, outputs: &mut Vec<Output>) {
        if self.health_stops_raft() {
            return self.refuse(input, outputs);
        }
        match input {
            Input::Tick => self.tick(),
            Input::Peer(message) => {
                if self.disk_full && message.entries.iter().any(carries_records) {
                    return;
                }
                match self.group.step(message) {
                    Err(error @ StepError::CommitBeyondLog { .. }) => {
                        self.stop(Health::Faulty(error.to_string()), outputs);
                    }
                    Err(StepError::Damaged { index, why }) => {
                        outputs.push(Output::Event(Event::DamagedMessage { index, why }));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            Input::Append { token, append } => self.requests.push_back((token, Request::Append(append))),
            Input::Command { token, command } => self.requests.push_back((token, Request::Command(command))),
            Input::Positions { token, group } => {
                self.requests.push_back((token, Request::Positions(group)));
            }
            Input::Membership { token, decided_on, .. }
                if decided_on.is_some_and(|index| index != self.membership_index) =>
            {
                outputs.push(Output::Answer(token, Err(AppendError::ChangeUnderWay)));
            }
            Input::Membership { token, changes, .. } => {
                let proposed = self.group.propose_membership(&changes);
                let answer = proposed.map(|()| Answer::Done).map_err(|error| match error {
                    ProposeError::NotLeader => self.not_leader(),
                    ProposeError::ChangeUnderWay => AppendError::ChangeUnderWay,
                });
                outputs.push(Output::Answer(token, answer));
            }
            Input::Tail { token }
                if self.group.role() == Role::Leader && planted::is_active(Bug::AnswerTailWithoutQuorum) =>
            {
                outputs.push(Output::Answer(token, Ok(Answer::Tail(self.state.committed().last_lsn))));
            }
            Input::Tail { token } if self.group.role() == Role::Leader => {
                self.waiters.on_confirmation(Confirm::Tail(token));
            }
            Input::Standing { token, replica } if self.group.role() == Role::Leader => {
                self.group.outrun_former_voters();
                self.waiters.on_confirmation(Confirm::Standing(token, replica));
            }
            Input::Tail { token } | Input::Standing { token, .. } => {
                outputs.push(Output::Answer(token, Err(self.not_leader())));
            }
            Input::Transfer { token, to } => {
                let answer = match self.group.role() {
                    Role::Leader => {
                        self.group.transfer(to);
                        Ok(Answer::Done)
                    }
                    _ => Err(self.not_leader()),
                };
                outputs.push(Output::Answer(token, answer));
            }
            Input::HandOver { token } => {
                self.step_down();
                let begun = self.group.transferee().is_some();
                let answer = if begun { Ok(Answer::Done) } else { Err(self.not_leader()) };
                outputs.push(Output::Answer(token, answer));
            }
            Input::Synced(outcome) => self.synced(outcome, outputs),
            Input::ColdRead { id, entries } => self.group.cold_read_done(id, entries),
            Input::PeerLost { node } => self.group.peer_lost(node),
            Input::PeerFound { .. } => self.group.peer_found(),
            Input::DiskFull(full) => self.disk_full = full,
            Input::Settings(settings) => self.settings = settings,
            Input::Seal => self.group.log_mut().seal(),
        }
    }

    /// Does all there is to do, up to handing one group to the disk.
    pub fn turn(&mut self, now_ms: i64, outputs: &mut Vec<Output>) {
        while !self.health_stops_raft() {
            let mut moved = self.drain(outputs);
            moved |= self.propose(now_ms, outputs);
            moved |= self.confirm();
            self.trim();
            moved |= self.submit(outputs);
            if !moved {
                break;
            }
        }
        self.publish(outputs);
    }

    /// Whether a turn would do anything: most ticks of an idle shard leave nothing to do.
    pub fn needs_turn(&self) -> bool {
        self.health_stops_raft()
            || !self.requests.is_empty()
            || self.group.has_ready()
            || self.group.log().has_queued()
    }

    /// How many of the next ticks do nothing, if nothing else comes in.
    pub fn spare_ticks(&self) -> u64 {
        let log = self.group.log();
        let hands_over = self.disk_full && self.group.role() == Role::Leader;
        if self.needs_turn() || hands_over || self.newest.0 != self.state.last_index() {
            return 0;
        }
        let idle = self.ticks - self.newest.1;
        let to_seal = match log.is_settled() {
            true => u64::MAX,
            false => self.seal_ticks.saturating_sub(idle + 1),
        };
        let keeps_all = self.settings.retention_bytes.is_none() && self.settings.retention_ms.is_none();
        let to_retention = match self.group.role() == Role::Leader && !keeps_all {
            true => super::RETENTION_TICKS - 1 - self.ticks % super::RETENTION_TICKS,
            false => u64::MAX,
        };
        self.group.spare_ticks().min(to_retention).min(to_seal)
    }

    fn tick(&mut self) {
        self.group.tick();
        self.ticks += 1;
        if self.newest.0 != self.state.last_index() {
            self.newest = (self.state.last_index(), self.ticks);
        }
        if self.ticks.is_multiple_of(super::RETENTION_TICKS) {
            self.apply_retention();
        }
        // Vouches for the last group once the log is idle; does nothing if that is done.
        if self.ticks - self.newest.1 >= self.seal_ticks {
            self.group.log_mut().seal();
        }
        if self.disk_full && self.group.role() == Role::Leader && self.ticks >= self.step_down_tick {
            self.step_down_tick = self.ticks + STEP_DOWN_TICKS;
            self.step_down();
        }
    }

    /// Begins to hand leadership to the voter that has come furthest, of those that are there if there are any.
    fn step_down(&mut self) {
        let voters = &self.membership.voters;
        let other = |replica: &ReplicaProgress| replica.node != self.node && voters.contains(&replica.node);
        let others = self.group.progress().into_iter().filter(other);
        // Of equals another one in each shard: what one broker led is spread over the others.
        let turn = |node: u64| (node + self.id) % (voters.len() as u64 + 1);
        let furthest =
            |replica: &ReplicaProgress| (replica.recent_active, replica.matched_index, turn(replica.node));
        if let Some(best) = others.max_by_key(furthest) {
            self.group.transfer(best.node);
        }
    }

    /// Hands over for good, if this replica leads and somebody else may: nothing more is appended, and whoever waits is
    /// told that the outcome is unknown. See [`Shard::is_handing_over`] for how long that takes.
    pub fn hand_over(&mut self, outputs: &mut Vec<Output>) {
        if self.health_stops_raft() || self.group.role() != Role::Leader {
            return;
        }
        self.step_down();
        self.waiters.fail_all(&AppendError::OutcomeUnknown, outputs);
    }

    /// Whether this replica still leads while another is asked to. Consensus gives up after an election timeout.
    pub fn is_handing_over(&self) -> bool {
        !self.health_stops_raft() && self.group.role() == Role::Leader && self.group.transferee().is_some()
    }

    /// Retention is the leader's decision, and reaches the replicas as a system entry.
    fn apply_retention(&mut self) {
        if self.group.role() != Role::Leader {
            return;
        }
        let now_ms = self.log_time_ms();
        let oldest_ms =
            self.settings.retention_ms.map(|kept| now_ms - i64::try_from(kept).unwrap_or(i64::MAX));
        let point = self.group.log().retention_point(self.settings.retention_bytes, oldest_ms);
        if let Some(log_start) = point.filter(|point| *point > self.state.log_start()) {
            let command = super::types::Command::Trim { log_start };
            self.requests.push_back((super::NOBODY, Request::Command(command)));
        }
    }

    /// What time it is by the log: the leader time of its last entry, and what has passed since, in ticks. A leader
    /// whose clock is wrong must not drop what is young.
    fn log_time_ms(&self) -> i64 {
        let (index, ticks) = self.newest;
        let passed = if index == self.state.last_index() { self.ticks - ticks } else { 0 };
        self.state.leader_time_ms() + (passed * self.tick_ms) as i64
    }

    fn drain(&mut self, outputs: &mut Vec<Output>) -> bool {
        let mut moved = false;
        while let Some(ready) = self.group.ready() {
            moved = true;
            if let Err(health) = self.handle(ready, outputs) {
                self.stop(health, outputs);
                return false;
            }
        }
        for read in self.group.take_cold_reads(self.backlog.taken_in_bytes()) {
            outputs.push(Output::ColdRead(read, self.group.log().reader()));
        }
        self.role_changed(outputs);
        moved
    }

    /// The host's duties for one ready, in the order that the seam's documentation numbers them.
    fn handle(&mut self, mut ready: Ready, outputs: &mut Vec<Output>) -> Result<(), Health> {
        let number = ready.number;
        let vote = ready
            .vote
            .filter(|vote| *vote != (self.group.log().vote().term, self.group.log().vote().voted_for));
        if vote.is_some() {
            self.vote_ready = number;
        }
        self.send(&mut ready, outputs);
        if let Some(first) = ready.entries.first() {
            self.forget_acknowledgements(first.index);
        }
        if let Some(checkpoint) = ready.snapshot.take() {
            self.install(checkpoint, outputs)?;
        }
        for entry in std::mem::take(&mut ready.entries) {
            self.append(entry, outputs)?;
        }
        if let Some((term, voted_for)) = vote {
            let commit = self.group.commit();
            let voted_for = if planted::is_active(Bug::ForgetWhomVotedFor) { 0 } else { voted_for };
            self.group.log_mut().set_vote(Vote { term, voted_for, commit });
        }
        for entry in std::mem::take(&mut ready.membership) {
            self.apply_membership(&entry, outputs);
        }
        self.last_ready = number;
        let reads = std::mem::take(&mut ready.reads);
        self.group.advance(ready);
        self.commit(outputs);
        for context in reads {
            for confirm in self.waiters.confirmed(context) {
                outputs.push(self.confirmed(confirm));
            }
        }
        Ok(())
    }

    /// What somebody is told now that a quorum has confirmed who leads.
    fn confirmed(&self, confirm: Confirm) -> Output {
        match confirm {
            Confirm::Verdict(token, verdict) => Output::Answer(token, verdict),
            Confirm::Tail(token) => Output::Answer(token, Ok(Answer::Tail(self.state.committed().last_lsn))),
            Confirm::Standing(token, replica) => {
                let (log, commit_index) = (self.group.log(), self.group.commit());
                let matched_index = self.group.matched(replica);
                let confirmed = log.chain(commit_index).map(|commit_chain| {
                    Answer::Standing(Confirmed { commit_index, commit_chain, matched_index })
                });
                Output::Answer(token, confirmed.ok_or(AppendError::OutcomeUnknown))
            }
        }
    }

    /// What needs no sync leaves now, the rest is held under the ready's number. Nothing leaves before the term and
    /// vote it speaks for are synced: a lone voter leads in a term that nobody else has heard of.
    fn send(&mut self, ready: &mut Ready, outputs: &mut Vec<Output>) {
        let vote_is_synced = self.vote_ready <= self.persisted_ready;
        let number = ready.number;
        let too_early = match ready.vote {
            Some(_) => planted::is_active(Bug::VoteBeforeSync),
            None => vote_is_synced && planted::is_active(Bug::AcknowledgeBeforeSync),
        };
        for message in std::mem::take(&mut ready.messages) {
            match vote_is_synced {
                true => outputs.push(Output::Send(message)),
                false => self.held.push_back((number, message)),
            }
        }
        for message in std::mem::take(&mut ready.held_messages) {
            // A heartbeat's answer speaks of no entry; held back by a slow disk it would depose a healthy leader.
            match too_early || (vote_is_synced && message.answers_heartbeat()) {
                true => outputs.push(Output::Send(message)),
                false => self.held.push_back((number, message)),
            }
        }
    }

    fn append(&mut self, entry: Entry, outputs: &mut Vec<Output>) -> Result<(), Health> {
        let broken =
            |error: &dyn std::fmt::Display| Health::Failed(format!("an entry does not fit the log: {error}"));
        if entry.index <= self.group.log().last_index() {
            self.roll_back(entry.index, outputs)?;
        }
        // A leader's own entries were applied as they were stamped, and it rolled before stamping.
        if self.state.last_index() < entry.index {
            self.roll_if_needed(entry.envelope.len() + entry.body.len())?;
            self.state.apply(&entry).map_err(|error| broken(&error))?;
        } else if planted::is_active(Bug::CheckpointLaterState) {
            self.roll_if_needed(entry.envelope.len() + entry.body.len())?;
        }
        if entry.kind != EntryKind::Normal && planted::is_active(Bug::ApplyMembershipAtAppend) {
            self.apply_membership(&entry, outputs);
        }
        self.backlog.push(entry.index, entry.envelope.len() + entry.body.len());
        self.group.log_mut().append(entry).map_err(|error| broken(&error))
    }

    /// A suffix that lost an election goes, and with it all that was derived from it.
    fn roll_back(&mut self, from_index: u64, outputs: &mut Vec<Output>) -> Result<(), Health> {
        let entries = self.group.log().last_index() + 1 - from_index;
        self.group.log_mut().truncate(from_index).map_err(|error| Health::Failed(error.to_string()))?;
        self.state.roll_back(from_index);
        self.backlog.roll_back(from_index);
        self.forget_acknowledgements(from_index);
        // Whoever waited for this suffix must not be told of what replaces it.
        if !planted::is_active(Bug::TellWaitersOfAnotherLeadersEntry) {
            self.waiters.fail_all(&AppendError::OutcomeUnknown, outputs);
        }
        outputs.push(Output::Event(Event::RolledBack { from_index, entries }));
        Ok(())
    }

    /// Entries from here on are new: a leader of the past is not told of what it had here, or would have had, had it not been
    /// replaced within the turn.
    fn forget_acknowledgements(&mut self, from_index: u64) {
        let term = self.group.term();
        self.held.retain(|(_, message)| message.term == term || !message.acknowledges_from(from_index));
    }

    /// Opens a new segment where the log asks for one. Not between a membership entry's append and its apply, for the
    /// checkpoint's membership is of its own index; unless a truncation leaves no choice: then the checkpoint carries
    /// those entries, and no snapshot is made of it.
    pub(super) fn roll_if_needed(&mut self, next_entry_bytes: usize) -> Result<(), Health> {
        let (log, partial) = (self.group.log(), !self.state.unapplied_membership().is_empty());
        if !log.must_roll() && (partial || !log.needs_roll(next_entry_bytes)) {
            return Ok(());
        }
        let membership = Membership { partial, ..self.membership.clone() };
        let state = self.state.roll_state(&membership, self.membership_index);
        let nonce = self.random.nonce();
        self.group.log_mut().roll(state, nonce).map_err(|error| Health::Failed(error.to_string()))
    }

    fn apply_membership(&mut self, entry: &Entry, outputs: &mut Vec<Output>) {
        self.state.membership_applied(entry.index);
        self.is_guest &= !names(entry, self.node);
        match self.group.apply_membership(entry) {
            Ok(mut membership) => {
                membership.learners.retain(|learner| !self.is_guest || *learner != self.node);
                self.membership_confirmed = membership == self.membership;
                self.membership = membership;
                self.membership_index = entry.index;
            }
            // Every replica judges alike: a change that makes no sense changes nothing.
            Err(error) => {
                outputs.push(Output::Event(Event::MembershipRefused {
                    index: entry.index,
                    why: error.to_string(),
                }));
            }
        }
    }

    /// Follows Raft's committed index: the high watermark, the answers.
    fn commit(&mut self, outputs: &mut Vec<Output>) {
        let commit = self.group.commit();
        self.group.log_mut().set_commit(commit);
        self.state.commit(commit);
        self.waiters.committed(commit, outputs);
        self.backlog.settle(commit.min(self.group.log().synced_index()));
    }

    /// Drops the segments below the log start, once nothing of them is left for Raft to apply.
    fn trim(&mut self) {
        let too_early = planted::is_active(Bug::TrimBeforeCommit);
        let log_start = if too_early { self.state.log_start() } else { self.state.committed().log_start };
        if log_start > self.trimmed_to && self.group.applied() >= self.group.commit() {
            self.trimmed_to = log_start;
            // A partial checkpoint stands for nothing: a log that began with it could not be given to a new replica.
            let is_whole = |checkpoint: &Checkpoint| {
                Membership::decode(&checkpoint.membership).is_ok_and(|membership| !membership.partial)
            };
            self.group.log_mut().trim_to(log_start, is_whole);
        }
    }

    fn confirm(&mut self) -> bool {
        if !self.group.has_committed_in_term() || self.group.role() != Role::Leader {
            return false;
        }
        match self.waiters.begin_confirmation() {
            Some(context) => {
                self.group.confirm_leadership(context);
                true
            }
            None => false,
        }
    }

    /// Hands everything queued to the disk as one group; with nothing queued, everything asked for is durable.
    fn submit(&mut self, outputs: &mut Vec<Output>) -> bool {
        if self.group.log().in_flight() {
            return false;
        }
        if let Some(group) = self.group.log_mut().take_group() {
            self.in_flight_ready = self.last_ready;
            outputs.push(Output::Write(group));
            if self.group.role() == Role::Leader && planted::is_active(Bug::CountOwnCopyEarly) {
                self.group.persisted(self.last_ready);
            }
            return false;
        }
        if self.persisted_ready < self.last_ready {
            self.persisted(self.last_ready, outputs);
            return true;
        }
        false
    }

    fn synced(&mut self, outcome: GroupOutcome, outputs: &mut Vec<Output>) {
        match self.group.log_mut().group_done(outcome) {
            Ok(_) => {
                let newest = planted::is_active(Bug::ReleaseForNewestReady);
                self.persisted(if newest { self.last_ready } else { self.in_flight_ready }, outputs);
            }
            Err(failed) => self.stop(Health::Failed(failed.to_string()), outputs),
        }
    }

    /// Follower replies speak of synced entries: only now may they leave.
    fn persisted(&mut self, number: u64, outputs: &mut Vec<Output>) {
        self.persisted_ready = number;
        self.backlog.settle(self.group.commit().min(self.group.log().synced_index()));
        while self.held.front().is_some_and(|(ready, _)| *ready <= number) {
            outputs.extend(self.held.pop_front().map(|(_, message)| Output::Send(message)));
        }
        self.group.persisted(number);
    }

    fn role_changed(&mut self, outputs: &mut Vec<Output>) {
        let leads = self.group.role() == Role::Leader;
        let term = self.group.term();
        if self.led_term.is_some() && (!leads || self.led_term != Some(term)) {
            self.led_term = None;
            outputs.push(Output::Event(Event::LostLeadership { term }));
            let refused = planted::is_active(Bug::CallUnknownOutcomeRefused);
            let error = if refused { self.not_leader() } else { AppendError::OutcomeUnknown };
            if !planted::is_active(Bug::TellWaitersOfAnotherLeadersEntry) {
                self.waiters.fail_all(&error, outputs);
            }
        }
        if leads && self.led_term.is_none() {
            self.led_term = Some(term);
            outputs.push(Output::Event(Event::BecameLeader { term }));
        }
    }
}

/// Whether an entry is what a full disk has no room for. The reserve is there for the others: without a leader's first
/// entry nobody could confirm a read, and without a trim no room would ever be made.
fn carries_records(entry: &WireEntry) -> bool {
    // What cannot be read is refused later, by name.
    Envelope::decode(&entry.envelope)
        .is_ok_and(|envelope| envelope.record_count > 0 || command::commits_position(&entry.body))
}
