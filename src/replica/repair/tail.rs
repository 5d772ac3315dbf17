//! The tail: committed entries of a confirmed leader, from where both logs agree, through all that it committed.

use lockstep_protocol::peer::{Confirmed, RepairMessage};
use lockstep_storage::{Checkpoint, Entry};

use super::{Around, FETCH_BYTES, Loss, PAUSE_TIMEOUTS, Repair, Stage, Work, holes::begins_behind};
use crate::shard::Rebuild;

/// Taking a leader's entries; the log is away while a job works on it.
pub(super) struct Tail {
    pub(super) leader: u64,
    confirmed: Confirmed,
    pub(super) rebuild: Option<Box<Rebuild>>,
    /// The next index to ask for, and how far to step back if the chain before it is another.
    from: u64,
    step: u64,
}

impl Repair {
    /// Begins from a leader's checkpoint only where that reaches beyond what is intact here. A hole that nobody can fill is
    /// given up only for a leader that has dropped what is missing, or may have other entries there.
    pub(super) fn base(
        &mut self,
        leader: u64,
        confirmed: Confirmed,
        checkpoint: Checkpoint,
        around: &mut Around<'_>,
    ) {
        let Some(survey) = &self.survey else { return };
        let hole = survey.holes().iter().find(|hole| hole.is_closed());
        let last = hole.and_then(|hole| hole.last_index);
        let dropped = hole.is_none_or(|hole| match hole.before {
            // A log may begin in the middle of what is missing here: the first of it is gone there.
            Some(before) => checkpoint.index > before.index,
            None => last.is_none_or(|last| checkpoint.index >= last),
        });
        // What closes the hole may be of a suffix that lost an election.
        let disputed = self.contradicted || last.is_some_and(|last| last > confirmed.commit_index);
        let lost_front = hole.filter(|hole| hole.before.is_none() && self.exhausted && !disputed);
        // Some peer does not say what its log begins with: with the leader's a new replica would begin too.
        let front = match dropped {
            true => last.and_then(|last| begins_behind(survey, last)).cloned(),
            false => Some(checkpoint.clone()),
        };
        if let (Some(hole), Some(front)) = (lost_front.cloned(), front) {
            self.exhausted = false;
            return self.begin_hole(&hole, Some(front), around);
        }
        if self.exhausted && !(dropped || disputed) {
            let why = std::mem::take(&mut self.note);
            return self.begin_anew(&why, PAUSE_TIMEOUTS, around);
        }
        let differs = self.unanswered.take().is_some_and(|before| before < checkpoint.index);
        let behind = !differs && survey.tip().is_some_and(|tip| checkpoint.index <= tip.index);
        self.restart &= !behind;
        let base = (!behind).then_some(checkpoint);
        self.begin_rebuild(leader, confirmed, base, around);
    }

    pub(super) fn begin_rebuild(
        &mut self,
        leader: u64,
        confirmed: Confirmed,
        restart: Option<Checkpoint>,
        around: &mut Around<'_>,
    ) {
        let Some(survey) = self.survey.clone() else { return };
        let vote = self.new_vote();
        self.known.loss = Loss::Tail;
        self.stale = true;
        self.exhausted = false;
        self.note.clear();
        self.stage = Stage::Tail(Tail { leader, confirmed, rebuild: None, from: 0, step: 1 });
        let (why, random) = (self.known.why.clone(), around.random.split());
        self.run(Work::BeginRebuild { survey, restart, vote, why, random }, around);
    }

    /// The log under repair is back from a job: it is whole, or the leader is asked for more.
    pub(super) fn rebuilt(&mut self, rebuild: Box<Rebuild>, around: &mut Around<'_>) {
        // The checkpoint it may have begun from stands: whoever goes on from here goes on behind it.
        self.restart = false;
        let Stage::Tail(tail) = &mut self.stage else { return };
        let target = tail.confirmed.commit_index;
        if rebuild.last_index() >= target && rebuild.chain(target) == Some(tail.confirmed.commit_chain) {
            return self.run(Work::Finish { rebuild: Some(rebuild), vote: None }, around);
        }
        tail.from = (rebuild.last_index() + 1).min(target);
        tail.rebuild = Some(rebuild);
        self.ask_for_tail(around);
    }

    pub(super) fn ask_for_tail(&mut self, around: &mut Around<'_>) {
        let Stage::Tail(tail) = &self.stage else { return };
        let (leader, from_index, to_index) = (tail.leader, tail.from, tail.confirmed.commit_index);
        self.ask(leader, RepairMessage::Fetch { from_index, to_index, max_bytes: FETCH_BYTES }, around);
    }

    /// The leader's entries replace this log's from where both agree; nothing committed is ever replaced.
    pub(super) fn tail_entries(
        &mut self,
        chain_before: Option<u64>,
        entries: Vec<Entry>,
        around: &mut Around<'_>,
    ) {
        let Stage::Tail(tail) = &mut self.stage else { return };
        let Some(rebuild) = tail.rebuild.take() else { return };
        let (before, commit) = (tail.from - 1, rebuild.commit());
        let follows = chain_before.is_some() && chain_before == rebuild.chain(before);
        let asked_for = entries.first().is_some_and(|entry| entry.index == tail.from)
            && entries.last().is_some_and(|entry| entry.index <= tail.confirmed.commit_index);
        if follows && asked_for {
            tail.step = 1;
            return self.run(Work::Take { rebuild, entries }, around);
        }
        if follows {
            return self.begin_anew("the leader's log changed meanwhile", 1, around);
        }
        if chain_before.is_none() {
            // Its log begins later than this one ends, or than where both still agree: its checkpoint stands for what it has
            // dropped.
            self.restart = true;
            self.unanswered = Some(before);
            return self.begin_anew("the leader has dropped what is missing here", 1, around);
        }
        if before <= commit {
            let why = format!(
                "entry {before} is committed here and differs from the leader's: restore from a backup"
            );
            return self.begin_anew(&why, 10 * PAUSE_TIMEOUTS, around);
        }
        tail.from = (commit + 1).max(tail.from.saturating_sub(tail.step));
        tail.step *= 2;
        tail.rebuild = Some(rebuild);
        self.ask_for_tail(around);
    }
}
