//! Holes: what something intact closes is taken from any peer, one peer after another.
//!
//! What holds here:
//! - A peer is asked for as long as it has something. One whose chain differs before what it sends has other entries than
//!   those that stood here, or somebody before it had: nobody whose entries led to a contradiction is asked again for this
//!   hole, until all have been asked in vain. Whom to ask is drawn: the same order would fail in the same way.
//! - Where the log's own beginning is lost, it begins with a peer's: with one that reaches back to the log's start if that is
//!   known, else with the earliest of all peers. The oldest entries are given up where all have dropped them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_protocol::peer::RepairMessage;
use lockstep_storage::{
    Checkpoint, Entry,
    salvage::{Hole, Patch, PatchError, Survey},
};

use super::{Around, FETCH_BYTES, PAUSE_TIMEOUTS, Repair, Stage, Work};
use crate::raft::Membership;

/// A segment that is being filled.
pub(super) struct Filling {
    segment: u64,
    /// None yet where its first checkpoint must come from a peer; away while a job works on it.
    pub(super) patch: Option<Box<Patch>>,
    /// Who is asked.
    source: Option<u64>,
    /// Whose entries are in the patch.
    used: BTreeSet<u64>,
    /// What the logs of those that said so begin with.
    bases: BTreeMap<u64, Option<Checkpoint>>,
    /// All have been asked before, and a leader has said what the log may begin with.
    is_last_resort: bool,
}

impl Repair {
    /// Begins with a hole that something intact closes; behind this checkpoint, if the log's beginning is lost with it.
    pub(super) fn begin_hole(&mut self, hole: &Hole, base: Option<Checkpoint>, around: &mut Around<'_>) {
        let (segment, is_last_resort) = (hole.segment, base.is_some());
        let (used, bases) = (BTreeSet::new(), BTreeMap::new());
        self.stage = Stage::Hole(Filling { segment, patch: None, source: None, used, bases, is_last_resort });
        match hole.before.is_some() || base.is_some() {
            true => self.begin_patch(segment, base, around),
            false => self.ask_for_hole(around),
        }
    }

    fn begin_patch(&mut self, segment: u64, checkpoint: Option<Checkpoint>, around: &mut Around<'_>) {
        let Some(survey) = self.survey.clone() else { return };
        let random = around.random.split();
        self.run(Work::BeginPatch { survey, segment, checkpoint, random }, around);
    }

    /// Asks a peer that has not failed at it for what is missing next.
    pub(super) fn ask_for_hole(&mut self, around: &mut Around<'_>) {
        let Stage::Hole(filling) = &mut self.stage else { return };
        let message = match filling.patch.as_ref().and_then(|patch| patch.missing()) {
            Some((from_index, to_index)) => {
                RepairMessage::Fetch { from_index, to_index, max_bytes: FETCH_BYTES }
            }
            None => RepairMessage::FetchCheckpoint,
        };
        let has_said = |peer: &u64| filling.patch.is_none() && filling.bases.contains_key(peer);
        let is_able = |peer: &u64| !self.unable.contains(peer) && !has_said(peer);
        let able: Vec<u64> = around.peers.iter().copied().filter(is_able).collect();
        filling.source = filling.source.filter(is_able).or_else(|| around.random.pick(&able));
        match filling.source {
            Some(peer) => self.ask(peer, message, around),
            None if filling.patch.is_none() => self.begin_with_earliest(around),
            None => self.give_hole_up(around),
        }
    }

    /// Whoever was asked has nothing for it.
    pub(super) fn source_failed(&mut self, around: &mut Around<'_>) {
        self.unable.extend(self.asked.take().map(|asked| asked.to));
        self.ask_for_hole(around);
    }

    fn give_hole_up(&mut self, around: &mut Around<'_>) {
        let Stage::Hole(Filling { segment, is_last_resort, .. }) = &self.stage else { return };
        self.note = format!(
            "no other replica has what is missing in segment {segment}: if it is damaged everywhere, it must come from a \
             backup"
        );
        self.unable.clear();
        if *is_last_resort {
            let why = std::mem::take(&mut self.note);
            return self.begin_anew(&why, PAUSE_TIMEOUTS, around);
        }
        self.exhausted = true;
        self.begin_standings(around);
    }

    /// A peer sends what it has of what is missing.
    pub(super) fn hole_entries(
        &mut self,
        chain_before: Option<u64>,
        entries: Vec<Entry>,
        around: &mut Around<'_>,
    ) {
        let (Stage::Hole(filling), Some(asked)) = (&mut self.stage, &self.asked) else { return };
        let Some(patch) = filling.patch.take_if(|_| !entries.is_empty()) else {
            return self.source_failed(around);
        };
        if chain_before.is_none_or(|chain| chain == patch.chain()) {
            filling.used.insert(asked.to);
            return self.run(Work::Fill { patch, entries }, around);
        }
        self.contradicted = true;
        filling.used.remove(&asked.to);
        if filling.used.is_empty() {
            filling.patch = Some(patch);
            return self.source_failed(around);
        }
        // Those before it may have been the ones in a suffix that lost an election.
        self.unable.append(&mut filling.used);
        self.begin_anew("two other replicas have different entries there", 1, around);
    }

    /// A segment is whole again: what else is missing?
    pub(super) fn patched(&mut self, around: &mut Around<'_>) {
        self.contradicted = false;
        self.unable.clear();
        self.note.clear();
        self.asked = None;
        let patched = match &self.stage {
            Stage::Hole(filling) => self.survey.take().map(|survey| (survey, filling.segment)),
            _ => None,
        };
        let loss = self.known.loss;
        match patched {
            Some((survey, segment)) => self.run(Work::Rescan { survey, segment, loss }, around),
            None => self.run(Work::Survey(loss), around),
        }
    }

    /// What was filled in does not lead to what is intact behind it, or something failed.
    pub(super) fn patching_failed(&mut self, error: &PatchError, around: &mut Around<'_>) {
        self.stale = true;
        self.unable.extend(self.asked.take().map(|asked| asked.to));
        if let (PatchError::ChainMismatch { .. }, Stage::Hole(filling)) = (error, &mut self.stage) {
            self.contradicted = true;
            self.unable.append(&mut filling.used);
        }
        self.begin_anew(&error.to_string(), PAUSE_TIMEOUTS, around);
    }

    /// A peer says what its log begins with.
    pub(super) fn hole_base(&mut self, base: Option<Checkpoint>, around: &mut Around<'_>) {
        let (Stage::Hole(filling), Some(asked)) = (&mut self.stage, self.asked.take()) else { return };
        let last = self.survey.as_ref().and_then(|survey| end_of(survey.holes(), filling.segment));
        let reaches_back = |base: &Checkpoint| {
            last.is_some_and(|last| base.index <= last)
                && self.told.log_start.is_some_and(|log_start| base.last_lsn < log_start)
        };
        if base.as_ref().is_some_and(reaches_back) {
            let segment = filling.segment;
            return self.begin_patch(segment, base, around);
        }
        filling.bases.insert(asked.to, base);
        self.ask_for_hole(around);
    }

    /// None is known to reach back to the log's start. If all have said what they have, the earliest is the best there is.
    fn begin_with_earliest(&mut self, around: &mut Around<'_>) {
        let (Stage::Hole(filling), Some(survey)) = (&self.stage, &self.survey) else { return };
        let Some(last) = end_of(survey.holes(), filling.segment) else { return };
        let have_all_said = around.peers.iter().all(|peer| filling.bases.contains_key(peer));
        let bases = || filling.bases.values().flatten();
        let earliest = bases().filter(|base| base.index <= last).min_by_key(|base| base.index);
        let dropped = !filling.bases.is_empty() && bases().count() == filling.bases.len();
        let own = begins_behind(survey, last)
            .filter(|own| dropped || self.told.log_start.is_some_and(|start| own.last_lsn < start));
        match earliest.or(own).filter(|_| have_all_said).cloned() {
            Some(checkpoint) => self.begin_patch(filling.segment, Some(checkpoint), around),
            None => self.give_hole_up(around),
        }
    }
}

/// The checkpoint behind the last entry missing at a log's beginning, if the log may begin with it: whoever begins with one
/// that is not known to be committed could not follow who has other entries, and with a partial one he could lead nobody
/// new.
pub(super) fn begins_behind(survey: &Survey, last: u64) -> Option<&Checkpoint> {
    let own = survey.checkpoint_before(last)?;
    let is_whole = Membership::decode(&own.membership).is_ok_and(|membership| !membership.partial);
    (own.index == last && own.index <= survey.known_commit() && is_whole).then_some(own)
}

/// The last index that is missing there.
fn end_of(holes: &[Hole], segment: u64) -> Option<u64> {
    holes.iter().find(|hole| hole.segment == segment)?.last_index
}
