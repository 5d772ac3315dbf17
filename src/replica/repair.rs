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
//! - A lost vote is replaced by none in a term above that of everyone it may have been given to: a candidate had written
//!   its term down before it asked. That takes an answer of each of them, or of the node that has dropped its replica.

mod holes;
mod standings;
mod tail;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_protocol::peer::{Confirmed, RepairMessage, Standing, WireEntry};
use lockstep_storage::{Checkpoint, Entry, salvage::Survey};

use super::{
    job::{Job, Outcome, Place, Work},
    mark::{Loss, Mark},
    types::Output,
};
use crate::{raft::entry_from_wire, random::Random, shard::Surveyed};
use holes::Filling;
use tail::Tail;

/// Bytes of entries asked for at a time.
const FETCH_BYTES: u32 = 4 << 20;
/// After a failure the repair begins anew, this many election timeouts later.
const PAUSE_TIMEOUTS: u64 = 2;
/// A question is asked again, elsewhere, after this many election timeouts.
const PATIENCE_TIMEOUTS: u64 = 4;

/// The repair of one replica.
pub(super) struct Repair {
    /// What is known of the damage.
    known: Mark,
    /// What keeps it from going on, for people.
    note: String,
    survey: Option<Arc<Survey>>,
    /// What is intact says of the shard.
    told: Surveyed,
    /// The files have changed since the survey.
    stale: bool,
    stage: Stage,
    /// The job that is out; there is one at the most.
    job: Option<u64>,
    /// The question that waits for an answer, or that the job at hand works on the answer of.
    asked: Option<Asked>,
    /// Drawn anew for each repair: an answer to an earlier one's question is none to this one's.
    last_number: u64,
    /// Peers that could not fill the hole at hand, or led to a contradiction.
    unable: BTreeSet<u64>,
    /// No peer could: perhaps the leader has dropped what is missing.
    exhausted: bool,
    /// A peer has other entries at its place: it may be in a suffix that lost an election.
    contradicted: bool,
    standings: BTreeMap<u64, Standing>,
    restart: bool,
    /// The leader did not say what it has behind this entry: it has dropped it, or cannot read it.
    unanswered: Option<u64>,
    marked: bool,
}

enum Stage {
    /// Begin anew at this tick.
    Pause { until: u64 },
    /// A segment is being filled.
    Hole(Filling),
    /// Looking for a leader.
    Standings,
    /// Waiting for the leader's checkpoint.
    Base { leader: u64, confirmed: Confirmed },
    /// Taking the leader's entries; the log is away while a job works on it.
    Tail(Tail),
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
    pub(super) last_job: &'a mut u64,
    pub(super) outputs: &'a mut Vec<Output>,
}

impl Repair {
    /// Begins a repair: by the mark.
    pub(super) fn begin(known: Mark, pause_timeouts: u64, around: &mut Around<'_>) -> Self {
        let mut repair = Self {
            known,
            note: String::new(),
            survey: None,
            told: Surveyed::default(),
            stale: true,
            stage: Stage::Pause { until: around.tick + pause_timeouts * around.timeout },
            job: None,
            asked: None,
            last_number: around.random.next_u64() >> 1,
            unable: BTreeSet::new(),
            exhausted: false,
            contradicted: false,
            standings: BTreeMap::new(),
            restart: false,
            unanswered: None,
            marked: false,
        };
        repair.mark(around);
        repair
    }

    fn mark(&mut self, around: &mut Around<'_>) {
        self.run(Work::Mark(self.known.clone()), around);
    }

    fn run(&mut self, work: Work, around: &mut Around<'_>) {
        *around.last_job += 1;
        let number = *around.last_job;
        self.job = Some(number);
        around.outputs.push(Output::Job(Job { place: around.place.clone(), number, work }));
    }

    /// What is wrong and what is done about it, for people.
    pub(super) fn status(&self) -> String {
        let doing = match &self.stage {
            Stage::Pause { .. } => "repairing",
            Stage::Hole(_) => "fetching what is missing from its peers",
            Stage::Standings | Stage::Base { .. } => "asking its peers for a confirmed leader",
            Stage::Tail(_) => "fetching the end of the log from the leader",
        };
        let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
        format!("{} ({doing}{note})", self.known.why)
    }

    /// What is intact here, for peers that ask.
    pub(super) fn survey(&self) -> Option<&Arc<Survey>> {
        self.survey.as_ref()
    }

    /// Who votes, as far as what is intact here says.
    pub(super) fn voters(&self) -> impl Iterator<Item = u64> + '_ {
        self.told.voters.iter().copied()
    }

    /// Time passes: what was not answered is asked again, elsewhere. `may_read` once no write is in flight any more.
    pub(super) fn tick(&mut self, may_read: bool, around: &mut Around<'_>) {
        if self.job.is_some() {
            return;
        }
        let patience = PATIENCE_TIMEOUTS * around.timeout;
        let overdue = self.asked.as_ref().is_none_or(|asked| around.tick >= asked.tick + patience);
        match &self.stage {
            Stage::Pause { until } if around.tick >= *until && may_read => {
                if !self.marked {
                    return self.mark(around);
                }
                match self.stale || self.survey.is_none() {
                    true => self.run(Work::Survey(self.known.loss), around),
                    false => self.decide(around),
                }
            }
            Stage::Hole(_) if overdue => self.source_failed(around),
            Stage::Standings if overdue && self.exhausted => {
                let why = std::mem::take(&mut self.note);
                self.begin_anew(&why, PAUSE_TIMEOUTS, around);
            }
            Stage::Standings if overdue => self.ask_standings(around),
            Stage::Base { .. } | Stage::Tail(Tail { rebuild: Some(_), .. }) if overdue => {
                self.begin_anew("the leader does not answer", 1, around);
            }
            _ => {}
        }
    }

    /// A job is done. Returns whether the repair is.
    pub(super) fn done(&mut self, number: u64, outcome: Outcome, around: &mut Around<'_>) -> bool {
        if self.job != Some(number) {
            return false;
        }
        self.job = None;
        match outcome {
            Outcome::Marked(Ok(())) => self.marked = true,
            Outcome::Marked(Err(error)) => {
                let why = format!("it cannot be marked, do not restart this broker: {error}");
                self.begin_anew(&why, PAUSE_TIMEOUTS, around);
            }
            Outcome::Surveyed(Ok((survey, told))) => {
                self.survey = Some(Arc::new(survey));
                self.told = told.unwrap_or_else(|| std::mem::take(&mut self.told));
                self.stale = false;
                self.decide(around);
            }
            Outcome::Patching(Ok(Some(patch))) => {
                if let Stage::Hole(filling) = &mut self.stage {
                    filling.patch = Some(patch);
                    self.ask_for_hole(around);
                }
            }
            Outcome::Patching(Ok(None)) => self.patched(around),
            Outcome::Patching(Err(error)) => self.patching_failed(&error, around),
            Outcome::Rebuilding(Ok(rebuild)) => self.rebuilt(rebuild, around),
            Outcome::Finished(Ok(())) => return true,
            Outcome::Surveyed(Err(error)) => self.begin_anew(&error.to_string(), PAUSE_TIMEOUTS, around),
            Outcome::Rebuilding(Err(why)) | Outcome::Finished(Err(why)) | Outcome::Panicked(why) => {
                self.stale = true;
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
        let Some(asked) = self.asked.as_ref().filter(|asked| asked.number == number && self.job.is_none())
        else {
            return;
        };
        if let (RepairMessage::Standing(standing), Stage::Standings) = (&message, &self.stage) {
            return self.stands(from, standing.clone(), around);
        }
        if asked.to != from {
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
        self.last_number += 1;
        self.asked = Some(Asked { to, number: self.last_number, tick: around.tick });
        around.outputs.push(Output::Repair { to, number: self.last_number, message });
    }

    /// What is to be done next, from what the survey found.
    fn decide(&mut self, around: &mut Around<'_>) {
        let Some(survey) = &self.survey else { return };
        self.asked = None;
        self.exhausted = false;
        // What the last group held is no tear where its sync is known to have returned.
        let last = survey.last_intact_index().unwrap_or(0);
        if matches!(self.known.loss, Loss::Holes { synced_index } if last < synced_index) {
            self.known.loss = Loss::Tail;
        }
        if let Some(hole) = survey.holes().iter().find(|hole| hole.is_closed()).cloned() {
            self.note = hole.damage(survey.proven_synced_index()).to_string();
            return self.begin_hole(&hole, None, around);
        }
        self.restart |= survey.tip().is_none();
        if survey.holes().is_empty()
            && !self.restart
            && self.known.loss != Loss::Tail
            && survey.vote().is_some()
        {
            return self.run(Work::Finish { rebuild: None, vote: None }, around);
        }
        self.begin_standings(around);
    }

    fn entries(&mut self, chain_before: Option<u64>, entries: Vec<WireEntry>, around: &mut Around<'_>) {
        let entries: Result<Vec<Entry>, _> = entries.into_iter().map(entry_from_wire).collect();
        let entries = entries.unwrap_or_default();
        match &self.stage {
            Stage::Hole(_) => self.hole_entries(chain_before, entries, around),
            Stage::Tail(_) => self.tail_entries(chain_before, entries, around),
            _ => {}
        }
    }

    fn checkpoint(&mut self, checkpoint: Option<Checkpoint>, around: &mut Around<'_>) {
        match (&self.stage, checkpoint) {
            (Stage::Hole(_), base) => self.hole_base(base, around),
            (Stage::Base { leader, confirmed }, Some(checkpoint)) => {
                let (leader, confirmed) = (*leader, *confirmed);
                self.base(leader, confirmed, checkpoint, around);
            }
            _ => self.begin_anew("the leader has no checkpoint to begin from", PAUSE_TIMEOUTS, around),
        }
    }
}
