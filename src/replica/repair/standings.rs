//! How the others stand: who leads, confirmed by a quorum, and which terms a lost vote may have been of.

use std::collections::BTreeSet;

use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::peer::{Confirmed, RepairMessage, Standing};
use lockstep_storage::Vote;

use super::{Around, Asked, Loss, Output, Repair, Stage, Work};

impl Repair {
    pub(super) fn begin_standings(&mut self, around: &mut Around<'_>) {
        self.stage = Stage::Standings;
        self.standings.clear();
        // One number for as long as they are asked: an answer that takes its time is as good.
        self.last_number += 1;
        self.ask_standings(around);
        self.weigh_standings(around);
    }

    pub(super) fn ask_standings(&mut self, around: &mut Around<'_>) {
        let number = self.last_number;
        self.asked = Some(Asked { to: 0, number, tick: around.tick });
        let ask = |to| Output::Repair { to, number, message: RepairMessage::Ask };
        let asked = self.replicas(around).into_iter().map(ask);
        around.outputs.extend(asked);
    }

    /// A peer says how it stands. It may name voters that nobody here has heard of.
    pub(super) fn stands(&mut self, from: u64, standing: Standing, around: &mut Around<'_>) {
        let known = self.replicas(around);
        self.standings.insert(from, standing);
        if self.replicas(around) != known {
            self.ask_standings(around);
        }
        self.weigh_standings(around);
    }

    /// All nodes that may hold a replica of the shard, but this one: as this node was told, as its own log says, and as those
    /// say that have answered.
    fn replicas(&self, around: &Around<'_>) -> BTreeSet<u64> {
        let named = self.standings.values().flat_map(|of| &of.voters);
        let mut replicas: BTreeSet<u64> =
            around.peers.iter().chain(&self.told.voters).chain(named).copied().collect();
        replicas.remove(&around.place.options.group.node);
        replicas
    }

    /// Whom this replica may have voted for and who may win with that: those whom a confirmed leader names, and all there may
    /// be as long as there is none. A node that was voted out has lost for good as soon as it lacks what the leader has
    /// committed since: whoever has that gives it no vote.
    fn electorate(&self, around: &Around<'_>) -> BTreeSet<u64> {
        let leader = self.standings.iter().find(|(_, of)| of.confirmed.is_some());
        let mut voters = match leader {
            Some((leader, of)) => of.voters.iter().chain([leader]).copied().collect(),
            None => self.replicas(around),
        };
        voters.remove(&around.place.options.group.node);
        voters
    }

    /// Goes on as soon as what is needed is known: every peer's term for a new vote, a confirmed leader for a tail.
    pub(super) fn weigh_standings(&mut self, around: &mut Around<'_>) {
        let Some(survey) = &self.survey else { return };
        let silent = |peer: &u64| self.standings.get(peer).and_then(|of| of.term).is_none();
        let silent: Vec<String> =
            self.electorate(around).iter().filter(|peer| silent(peer)).map(u64::to_string).collect();
        if survey.vote().is_none() && !silent.is_empty() {
            self.note = format!(
                "its vote is lost: everyone it may have voted for has to tell its term once, and node {} has not. One \
                 that cannot come back, or has lost its vote too, has to be replaced by a new replica",
                silent.join(", ")
            );
            return;
        }
        if self.known.loss != Loss::Tail && survey.holes().is_empty() && !self.restart {
            let vote = self.new_vote();
            return self.run(Work::Finish { rebuild: None, vote }, around);
        }
        let confirmed = |(peer, of): (&u64, &Standing)| of.confirmed.map(|confirmed| (*peer, confirmed));
        let whole = |(_, confirmed): &(u64, Confirmed)| confirmed.matched_index <= confirmed.commit_index;
        match self.standings.iter().filter_map(confirmed).find(whole) {
            Some((leader, confirmed)) if self.restart || self.exhausted => {
                self.stage = Stage::Base { leader, confirmed };
                self.ask(leader, RepairMessage::FetchCheckpoint, around);
            }
            Some((leader, confirmed)) => self.begin_rebuild(leader, confirmed, None, around),
            None if self.exhausted => {}
            None if around.peers.is_empty() => {
                self.note = "there is no other replica to repair it from: restore a backup".into();
            }
            None => self.note = "no leader has been confirmed yet".into(),
        }
    }

    /// A vote for nobody, in a term that this replica cannot have voted in; `None` if it knows its vote.
    pub(super) fn new_vote(&self) -> Option<Vote> {
        let survey = self.survey.as_ref().filter(|survey| survey.vote().is_none())?;
        let theirs = self.standings.values().filter_map(|of| of.term).max().unwrap_or(0);
        let ours = survey.tip().map_or(0, |tip| tip.term);
        let theirs = if planted::is_active(Bug::ForgetLostVote) { 0 } else { theirs };
        Some(Vote { term: theirs.max(ours) + 1, voted_for: 0, commit: 0 })
    }
}
