//! What a replica tells its peers of its log, and gives them of it, whatever its own state: their repair needs it.

use std::io;

use lockstep_protocol::peer::{RepairMessage, Standing};
use lockstep_storage::io::Disk;

use super::{
    Replica, State,
    job::{self, Question, Source, Work},
    types::Output,
};
use crate::shard::{self, Answer, AppendError, Former, Shard, Token};

/// How a node stands that holds no replica of a shard: either it never had one, or it has dropped it for good, and what that
/// had promised is written down. It must not be asked of a node that should have one and has lost it.
///
/// # Errors
/// Whatever the disk says, or that it is not known any more what was promised.
pub fn standing_without_replica(disk: &dyn Disk, directory: &str) -> io::Result<Standing> {
    let Former { term } = Former::read(disk, directory)?;
    Ok(Standing { term: Some(term), voters: Vec::new(), confirmed: None })
}

impl Replica {
    pub(super) fn about_repair(
        &mut self,
        from: u64,
        number: u64,
        message: RepairMessage,
        outputs: &mut Vec<Output>,
    ) {
        match message {
            RepairMessage::Ask => self.tell_standing(from, number, outputs),
            RepairMessage::Fetch { from_index, to_index, max_bytes } => {
                let max_bytes = (max_bytes as usize).min(shard::PROPOSAL_BYTES_MAX);
                let question = Question { from, number, from_index, to_index, max_bytes };
                match self.source() {
                    Some(source) => self.run(Work::Serve(question, source), outputs),
                    None => {
                        let message = RepairMessage::Entries { chain_before: None, entries: Vec::new() };
                        outputs.push(Output::Repair { to: from, number, message });
                    }
                }
            }
            RepairMessage::FetchCheckpoint => {
                let checkpoint = match &self.state {
                    State::Running(shard) => Some(shard.oldest_checkpoint()),
                    State::Repairing(repair) => repair.survey().and_then(|survey| survey.base()),
                    _ => None,
                };
                let message = job::checkpoint_message(checkpoint);
                outputs.push(Output::Repair { to: from, number, message });
            }
            answer => {
                self.with_repair(outputs, |repair, around| repair.answered(from, number, answer, around));
            }
        }
    }

    pub(super) fn source(&self) -> Option<Source> {
        match &self.state {
            State::Running(shard) => Some(Source::Log(shard.reader())),
            State::Repairing(repair) => repair.survey().cloned().map(Source::Survey),
            _ => None,
        }
    }

    /// A leader lets a quorum confirm it first; anyone else tells its term.
    pub(super) fn tell_standing(&mut self, from: u64, number: u64, outputs: &mut Vec<Output>) {
        if self.shard().is_some_and(|shard| shard.view().is_leader) {
            let token = self.next_token;
            self.next_token += 1;
            self.standings.insert(token, (from, number));
            return self.step_shard(shard::Input::Standing { token, replica: from }, outputs);
        }
        let (term, voters) = match &self.state {
            State::Running(shard) => (Some(shard.view().term), shard.voters()),
            State::Repairing(repair) => {
                let vote = repair.survey().and_then(|survey| survey.vote());
                (vote.map(|vote| vote.term), repair.voters().collect())
            }
            _ => (None, Vec::new()),
        };
        let message = RepairMessage::Standing(Standing { term, voters, confirmed: None });
        outputs.push(Output::Repair { to: from, number, message });
    }

    pub(super) fn stood(
        &mut self,
        token: Token,
        answer: Result<Answer, AppendError>,
        outputs: &mut Vec<Output>,
    ) {
        let Some((to, number)) = self.standings.remove(&token) else { return };
        let confirmed = match answer {
            Ok(Answer::Standing(confirmed)) => Some(confirmed),
            _ => None,
        };
        let term = self.shard().map(|shard| shard.view().term);
        let voters = self.shard().map(Shard::voters).unwrap_or_default();
        let message = RepairMessage::Standing(Standing { term, voters, confirmed });
        outputs.push(Output::Repair { to, number, message });
    }
}
