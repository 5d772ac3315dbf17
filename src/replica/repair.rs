//! How a faulty replica gets back what it lost: out of band, proven, and before it takes part again.
//!
//! ```text
//!   mark ─► survey ─► holes that something intact closes ──► filled from any peer, proven by the chain ─┐
//!              ▲                                                                                        │
//!              └──── again, until none is left ◄────────────────────────────────────────────────────────┘
//!                    then, if it cannot tell where its log ended, or its vote is lost:
//!           ask all peers how they stand ─► a leader confirmed by a quorum: commit index and chain
//!              ─► committed entries through that index ─► synced ─► unmark ─► Raft
//! ```
//!
//! What holds here:
//! - No vote, no acknowledgement, no Raft node, from the mark to its removal.
//! - A hole's entries are taken from anyone, damaged peers too: the chain proves them on both sides. So replicas
//!   damaged at different places heal each other without a leader.
//! - A tail is taken from a leader alone, after a quorum confirmed that it leads, and through all that it committed;
//!   and only if it counts nothing of this replica beyond that. For what it counts it might commit with a copy that
//!   is lost. Acknowledgements cannot arrive later: a peer's messages arrive in order, and this question is one.
//! - A lost vote is replaced by none in a term above every other replica's: a candidate that this one may have voted
//!   for had written its term down before it asked. That takes an answer of each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_protocol::peer::{Confirmed, RepairMessage, Standing, WireEntry};
use lockstep_storage::{
    Checkpoint, Entry, Vote,
    salvage::{Patch, Survey},
};

use super::{
    job::{Job, Outcome, Place, Work},
    mark::{Loss, Mark},
    types::Output,
};
use crate::{raft::entry_from_wire, random::Random, shard::Rebuild};

/// Bytes of entries asked for at a time.
const FETCH_BYTES: u32 = 4 << 20;
/// After a failure the repair begins anew, this many election timeouts later.
const PAUSE_TIMEOUTS: u64 = 2;

/// The repair of one replica.
pub(super) struct Repair {
    why: String,
    loss: Loss,
    /// What keeps it from going on, for people.
    note: String,
    survey: Option<Arc<Survey>>,
    stage: Stage,
    /// The question that waits for an answer.
    asked: Option<Asked>,
    next_number: u64,
    /// Peers that could not fill the hole at hand.
    unable: BTreeSet<u64>,
    standings: BTreeMap<u64, Standing>,
    restart: bool,
    marked: bool,
}

enum Stage {
    /// A job runs.
    Busy,
    /// Begin anew at this tick.
    Pause { until: u64 },
    /// A segment is being filled; no patch yet where its first checkpoint must come from a peer.
    Hole { segment: u64, patch: Option<Box<Patch>> },
    /// Looking for a leader.
    Standings,
    /// Waiting for the leader's checkpoint.
    Base { leader: u64, confirmed: Confirmed },
    /// Taking the leader's entries; the log is away while a job works on it.
    Tail(Tail),
}

struct Tail {
    leader: u64,
    confirmed: Confirmed,
    rebuild: Option<Box<Rebuild>>,
    /// The next index to ask for, and how far to step back if the chain before it is another.
    from: u64,
    step: u64,
}

struct Asked {
    to: u64,
    number: u64,
    tick: u64,
}

/// What surrounds a repair.
pub(super) struct Around<'a> {
    pub(super) place: &'a Place,
    pub(super) peers: &'a [u64],
    pub(super) tick: u64,
    /// An election timeout, in ticks.
    pub(super) timeout: u64,
    pub(super) random: &'a mut Random,
    pub(super) outputs: &'a mut Vec<Output>,
}

impl Around<'_> {
    fn run(&mut self, work: Work) {
        self.outputs.push(Output::Job(Job { place: self.place.clone(), work }));
    }
}

impl Repair {
    /// Begins a repair: by the mark.
    pub(super) fn begin(loss: Loss, why: String, around: &mut Around<'_>) -> Self {
        around.run(Work::Mark(Mark { loss, why: why.clone() }));
        Self {
            why,
            loss,
            note: String::new(),
            survey: None,
            stage: Stage::Busy,
            asked: None,
            next_number: 0,
            unable: BTreeSet::new(),
            standings: BTreeMap::new(),
            restart: false,
            marked: false,
        }
    }

    /// What is wrong and what is done about it, for people.
    pub(super) fn status(&self) -> String {
        let doing = match &self.stage {
            Stage::Busy | Stage::Pause { .. } => "repairing",
            Stage::Hole { .. } => "fetching what is missing from its peers",
            Stage::Standings | Stage::Base { .. } => "asking its peers for a confirmed leader",
            Stage::Tail(_) => "fetching the end of the log from the leader",
        };
        let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
        format!("{} ({doing}{note})", self.why)
    }

    /// What is intact here, for peers that ask.
    pub(super) fn survey(&self) -> Option<&Arc<Survey>> {
        self.survey.as_ref()
    }

    /// Time passes: what was not answered is asked again, elsewhere. `may_read` once no write is in flight any more.
    pub(super) fn tick(&mut self, may_read: bool, around: &mut Around<'_>) {
        let overdue = self.asked.as_ref().is_none_or(|asked| around.tick >= asked.tick + 2 * around.timeout);
        match &self.stage {
            Stage::Pause { until } if around.tick >= *until && may_read => {
                self.stage = Stage::Busy;
                match self.marked {
                    true => around.run(Work::Survey),
                    false => around.run(Work::Mark(Mark { loss: self.loss, why: self.why.clone() })),
                }
            }
            Stage::Hole { .. } if overdue => {
                self.unable.extend(self.asked.take().map(|asked| asked.to));
                self.ask_for_hole(around);
            }
            Stage::Standings if overdue => self.ask_standings(around),
            Stage::Base { .. } | Stage::Tail(Tail { rebuild: Some(_), .. }) if overdue => {
                self.begin_anew("the leader does not answer", 0, around);
            }
            _ => {}
        }
    }

    /// A job is done. Returns whether the repair is.
    pub(super) fn done(&mut self, outcome: Outcome, around: &mut Around<'_>) -> bool {
        match outcome {
            Outcome::Marked(Ok(())) => {
                self.marked = true;
                self.stage = Stage::Pause { until: around.tick };
            }
            Outcome::Marked(Err(error)) => {
                let why = format!("it cannot be marked, do not restart this broker: {error}");
                self.begin_anew(&why, PAUSE_TIMEOUTS, around);
            }
            Outcome::Surveyed(Ok(survey)) => {
                self.survey = Some(Arc::new(survey));
                self.decide(around);
            }
            Outcome::Patching(Ok(Some(patch))) => {
                if let Stage::Hole { patch: waiting, .. } = &mut self.stage {
                    *waiting = Some(patch);
                    self.ask_for_hole(around);
                }
            }
            Outcome::Patching(Ok(None)) => {
                self.unable.clear();
                self.note.clear();
                let patched = match self.stage {
                    Stage::Hole { segment, .. } => self.survey.take().map(|survey| (survey, segment)),
                    _ => None,
                };
                self.stage = Stage::Busy;
                match patched {
                    Some((survey, segment)) => around.run(Work::Rescan { survey, segment }),
                    None => around.run(Work::Survey),
                }
            }
            Outcome::Patching(Err(error)) => {
                self.unable.extend(self.asked.take().map(|asked| asked.to));
                self.begin_anew(&error.to_string(), PAUSE_TIMEOUTS, around);
            }
            Outcome::Rebuilding(Ok(rebuild)) => self.rebuilt(rebuild, around),
            Outcome::Finished(Ok(())) => return true,
            Outcome::Surveyed(Err(error)) => self.begin_anew(&error.to_string(), PAUSE_TIMEOUTS, around),
            Outcome::Rebuilding(Err(why)) | Outcome::Finished(Err(why)) => {
                self.begin_anew(&why, PAUSE_TIMEOUTS, around);
            }
            Outcome::Opened(_) | Outcome::Served { .. } | Outcome::ColdRead { .. } => {}
        }
        false
    }

    /// A peer answers.
    pub(super) fn answered(
        &mut self,
        from: u64,
        number: u64,
        message: RepairMessage,
        around: &mut Around<'_>,
    ) {
        if let RepairMessage::Standing(standing) = message {
            self.standings.insert(from, standing);
            if matches!(self.stage, Stage::Standings) {
                self.weigh_standings(around);
            }
            return;
        }
        if self.asked.as_ref().is_none_or(|asked| asked.to != from || asked.number != number) {
            return;
        }
        match message {
            RepairMessage::Entries { chain_before, entries } => self.entries(chain_before, entries, around),
            RepairMessage::Checkpoint { checkpoint } => {
                self.checkpoint(Checkpoint::decode(&checkpoint), around);
            }
            _ => {}
        }
    }

    fn begin_anew(&mut self, why: &str, timeouts: u64, around: &mut Around<'_>) {
        self.note = why.to_owned();
        self.asked = None;
        self.stage = Stage::Pause { until: around.tick + timeouts * around.timeout };
    }

    fn ask(&mut self, to: u64, message: RepairMessage, around: &mut Around<'_>) {
        self.next_number += 1;
        self.asked = Some(Asked { to, number: self.next_number, tick: around.tick });
        around.outputs.push(Output::Repair { to, number: self.next_number, message });
    }

    /// What is to be done next, from what the survey found.
    fn decide(&mut self, around: &mut Around<'_>) {
        let Some(survey) = &self.survey else { return };
        self.asked = None;
        if let Some(hole) = survey.holes().iter().find(|hole| hole.is_closed()) {
            let segment = hole.segment;
            self.note = hole.damage(survey.proven_synced_index()).to_string();
            self.stage = Stage::Hole { segment, patch: None };
            return match hole.before {
                Some(_) => self.begin_patch(segment, None, around),
                None => self.ask_for_hole(around),
            };
        }
        self.restart |= survey.tip().is_none();
        if survey.holes().is_empty() && !self.restart && self.loss == Loss::Holes && survey.vote().is_some() {
            self.stage = Stage::Busy;
            return around.run(Work::Finish { rebuild: None, vote: None });
        }
        self.stage = Stage::Standings;
        self.standings.clear();
        self.ask_standings(around);
        self.weigh_standings(around);
    }

    // ---- Holes ----

    fn begin_patch(&mut self, segment: u64, checkpoint: Option<Checkpoint>, around: &mut Around<'_>) {
        let Some(survey) = self.survey.clone() else { return };
        self.asked = None;
        let random = around.random.split();
        around.run(Work::BeginPatch { survey, segment, checkpoint, random });
        // Until the job is done there is nothing to ask for.
        self.stage = Stage::Hole { segment, patch: None };
        self.asked = Some(Asked { to: 0, number: 0, tick: u64::MAX / 2 });
    }

    /// Asks the next peer that has not failed at it for what is missing next.
    fn ask_for_hole(&mut self, around: &mut Around<'_>) {
        let Stage::Hole { patch, segment } = &self.stage else { return };
        let message = match patch.as_ref().and_then(|patch| patch.missing()) {
            Some((from_index, to_index)) => {
                RepairMessage::Fetch { from_index, to_index, max_bytes: FETCH_BYTES }
            }
            None => RepairMessage::FetchCheckpoint,
        };
        let able = |peer: &&u64| !self.unable.contains(peer);
        match around.peers.iter().find(able).copied() {
            Some(peer) => self.ask(peer, message, around),
            None => {
                let why = format!(
                    "no other replica has what is missing in segment {segment}: if it is damaged everywhere, it must \
                     come from a backup"
                );
                self.unable.clear();
                self.begin_anew(&why, PAUSE_TIMEOUTS, around);
            }
        }
    }

    fn entries(&mut self, chain_before: Option<u64>, entries: Vec<WireEntry>, around: &mut Around<'_>) {
        let entries: Result<Vec<Entry>, _> = entries.into_iter().map(entry_from_wire).collect();
        let entries = entries.unwrap_or_default();
        match &mut self.stage {
            Stage::Hole { patch, .. } => match patch.take() {
                Some(patch) if !entries.is_empty() => around.run(Work::Fill { patch, entries }),
                patch_again => {
                    *patch = patch_again;
                    self.unable.extend(self.asked.take().map(|asked| asked.to));
                    self.ask_for_hole(around);
                }
            },
            Stage::Tail(_) => self.tail_entries(chain_before, entries, around),
            _ => {}
        }
    }

    fn checkpoint(&mut self, checkpoint: Option<Checkpoint>, around: &mut Around<'_>) {
        match (&self.stage, checkpoint) {
            (Stage::Hole { segment, .. }, Some(checkpoint)) => {
                let segment = *segment;
                self.begin_patch(segment, Some(checkpoint), around);
            }
            (Stage::Hole { .. }, None) => {
                self.unable.extend(self.asked.take().map(|asked| asked.to));
                self.ask_for_hole(around);
            }
            (Stage::Base { leader, confirmed }, Some(checkpoint)) => {
                let (leader, confirmed) = (*leader, *confirmed);
                self.begin_rebuild(leader, confirmed, Some(checkpoint), around);
            }
            _ => self.begin_anew("the leader has no checkpoint to begin from", PAUSE_TIMEOUTS, around),
        }
    }

    // ---- The tail and the vote ----

    fn ask_standings(&mut self, around: &mut Around<'_>) {
        self.next_number += 1;
        let number = self.next_number;
        self.asked = Some(Asked { to: 0, number, tick: around.tick });
        let ask = |to: &u64| Output::Repair { to: *to, number, message: RepairMessage::Ask };
        around.outputs.extend(around.peers.iter().map(ask));
    }

    /// Goes on as soon as what is needed is known: every peer's term for a new vote, a confirmed leader for a tail.
    fn weigh_standings(&mut self, around: &mut Around<'_>) {
        let Some(survey) = &self.survey else { return };
        let terms = || around.peers.iter().map(|peer| self.standings.get(peer).and_then(|of| of.term));
        if survey.vote().is_none() && terms().any(|term| term.is_none()) {
            self.note = "its vote is lost: it waits for an answer of every other replica".into();
            return;
        }
        if self.loss == Loss::Holes && survey.holes().is_empty() && !self.restart {
            self.stage = Stage::Busy;
            return around.run(Work::Finish { rebuild: None, vote: self.new_vote(around.peers) });
        }
        let confirmed = |(peer, of): (&u64, &Standing)| of.confirmed.map(|confirmed| (*peer, confirmed));
        let whole = |(_, confirmed): &(u64, Confirmed)| confirmed.matched_index <= confirmed.commit_index;
        match self.standings.iter().filter_map(confirmed).find(whole) {
            Some((leader, confirmed)) if self.restart => {
                self.stage = Stage::Base { leader, confirmed };
                self.ask(leader, RepairMessage::FetchCheckpoint, around);
            }
            Some((leader, confirmed)) => self.begin_rebuild(leader, confirmed, None, around),
            None if around.peers.is_empty() => {
                self.note = "there is no other replica to repair it from: restore a backup".into();
            }
            None => self.note = "no leader has been confirmed yet".into(),
        }
    }

    /// A vote for nobody, in a term that this replica cannot have voted in; `None` if it knows its vote.
    fn new_vote(&self, peers: &[u64]) -> Option<Vote> {
        let survey = self.survey.as_ref().filter(|survey| survey.vote().is_none())?;
        let theirs = peers.iter().filter_map(|peer| self.standings.get(peer)?.term).max().unwrap_or(0);
        let ours = survey.tip().map_or(0, |tip| tip.term);
        Some(Vote { term: theirs.max(ours) + 1, voted_for: 0, commit: 0 })
    }

    fn begin_rebuild(
        &mut self,
        leader: u64,
        confirmed: Confirmed,
        restart: Option<Checkpoint>,
        around: &mut Around<'_>,
    ) {
        let Some(survey) = self.survey.clone() else { return };
        let vote = self.new_vote(around.peers);
        self.loss = Loss::Tail;
        self.note.clear();
        self.stage = Stage::Tail(Tail { leader, confirmed, rebuild: None, from: 0, step: 1 });
        let (why, random) = (self.why.clone(), around.random.split());
        around.run(Work::BeginRebuild { survey, restart, vote, why, random });
    }

    /// The log under repair is back from a job: it is whole, or the leader is asked for more.
    fn rebuilt(&mut self, rebuild: Box<Rebuild>, around: &mut Around<'_>) {
        let Stage::Tail(tail) = &mut self.stage else { return };
        let target = tail.confirmed.commit_index;
        if rebuild.last_index() >= target && rebuild.chain(target) == Some(tail.confirmed.commit_chain) {
            self.stage = Stage::Busy;
            return around.run(Work::Finish { rebuild: Some(rebuild), vote: None });
        }
        tail.from = (rebuild.last_index() + 1).min(target);
        tail.rebuild = Some(rebuild);
        self.ask_for_tail(around);
    }

    fn ask_for_tail(&mut self, around: &mut Around<'_>) {
        let Stage::Tail(tail) = &self.stage else { return };
        let (leader, from_index, to_index) = (tail.leader, tail.from, tail.confirmed.commit_index);
        self.ask(leader, RepairMessage::Fetch { from_index, to_index, max_bytes: FETCH_BYTES }, around);
    }

    /// The leader's entries replace this log's from where both agree; nothing committed is ever replaced.
    fn tail_entries(&mut self, chain_before: Option<u64>, entries: Vec<Entry>, around: &mut Around<'_>) {
        let Stage::Tail(tail) = &mut self.stage else { return };
        let Some(rebuild) = tail.rebuild.take() else { return };
        let (before, commit) = (tail.from - 1, rebuild.commit());
        let follows = chain_before.is_some() && chain_before == rebuild.chain(before);
        let asked_for = entries.first().is_some_and(|entry| entry.index == tail.from)
            && entries.last().is_some_and(|entry| entry.index <= tail.confirmed.commit_index);
        if follows && asked_for {
            tail.step = 1;
            self.asked = None;
            return around.run(Work::Take { rebuild, entries });
        }
        if follows {
            return self.begin_anew("the leader's log changed meanwhile", 1, around);
        }
        if chain_before.is_none() {
            // Its log begins later than this one ends: its checkpoint stands for what it has dropped.
            self.restart = true;
            return self.begin_anew("the leader has dropped what is missing here", 0, around);
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
