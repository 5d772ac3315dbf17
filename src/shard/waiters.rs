//! Requests that wait for the log to become durable, or for a quorum to confirm who leads.
//!
//! What holds here:
//! - An answer that was judged against the log is held until everything it was judged on is committed in this term:
//!   the negative ones and the duplicates too, for the tail they were judged on could still be rolled back.
//! - If all of that is committed already, the answer is held until a quorum confirms that this node still leads.
//! - Losing leadership answers everyone: the outcome is unknown.

use std::collections::{BTreeMap, VecDeque};

use super::types::{Answer, AppendError, Output, Token};

/// What somebody will be told.
pub type Verdict = Result<Answer, AppendError>;

#[derive(Debug)]
struct Waiter {
    token: Token,
    index: u64,
    verdict: Verdict,
}

/// What a confirmation of leadership is wanted for.
#[derive(Debug)]
pub enum Confirm {
    /// The last committed LSN, whatever it is by then.
    Tail(Token),
    /// A verdict that stands on committed entries alone.
    Verdict(Token, Verdict),
    /// How far everything is, for a replica under repair on this node.
    Standing(Token, u64),
}

/// All who wait for one shard.
#[derive(Debug, Default)]
pub struct Waiters {
    /// In order of index: judged in order, on a log that only grows while this node leads.
    for_commit: VecDeque<Waiter>,
    to_confirm: Vec<Confirm>,
    confirming: BTreeMap<u64, Vec<Confirm>>,
    next_context: u64,
}

impl Waiters {
    /// Holds a verdict until the entries up to `index` are committed.
    pub fn on_commit(&mut self, token: Token, index: u64, verdict: Verdict) {
        self.for_commit.push_back(Waiter { token, index, verdict });
    }

    /// Holds something until leadership is confirmed.
    pub fn on_confirmation(&mut self, confirm: Confirm) {
        self.to_confirm.push(confirm);
    }

    /// Starts one confirmation for all that wait for one; returns its context, unique in this run.
    pub fn begin_confirmation(&mut self) -> Option<u64> {
        if self.to_confirm.is_empty() {
            return None;
        }
        self.next_context += 1;
        self.confirming.insert(self.next_context, std::mem::take(&mut self.to_confirm));
        Some(self.next_context)
    }

    /// The entries up to `index` are committed.
    pub fn committed(&mut self, index: u64, outputs: &mut Vec<Output>) {
        while self.for_commit.front().is_some_and(|waiter| waiter.index <= index) {
            let Some(waiter) = self.for_commit.pop_front() else { break };
            outputs.push(Output::Answer(waiter.token, waiter.verdict));
        }
    }

    /// A quorum confirmed leadership after `context` was begun: what that is news for. What began before it is
    /// confirmed with it.
    pub fn confirmed(&mut self, context: u64) -> impl Iterator<Item = Confirm> + use<> {
        let later = self.confirming.split_off(&(context + 1));
        std::mem::replace(&mut self.confirming, later).into_values().flatten()
    }

    /// Nobody here can know any more.
    pub fn fail_all(&mut self, error: &AppendError, outputs: &mut Vec<Output>) {
        let confirming = std::mem::take(&mut self.confirming).into_values().flatten();
        let confirms =
            std::mem::take(&mut self.to_confirm).into_iter().chain(confirming).map(|confirm| match confirm {
                Confirm::Tail(token) | Confirm::Verdict(token, _) | Confirm::Standing(token, _) => token,
            });
        let tokens =
            std::mem::take(&mut self.for_commit).into_iter().map(|waiter| waiter.token).chain(confirms);
        outputs.extend(tokens.map(|token| Output::Answer(token, Err(error.clone()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(outputs: &[Output]) -> Vec<(Token, &Verdict)> {
        outputs
            .iter()
            .filter_map(|output| match output {
                Output::Answer(token, verdict) => Some((*token, verdict)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_verdict_is_held_until_its_index_is_committed() {
        let (mut waiters, mut outputs) = (Waiters::default(), Vec::new());
        waiters.on_commit(1, 5, Ok(Answer::Done));
        waiters.on_commit(2, 6, Err(AppendError::UnknownProducer));
        waiters.committed(4, &mut outputs);
        assert!(outputs.is_empty());
        waiters.committed(5, &mut outputs);
        assert_eq!(answers(&outputs), vec![(1, &Ok(Answer::Done))]);
        waiters.committed(9, &mut outputs);
        assert_eq!(answers(&outputs)[1], (2, &Err(AppendError::UnknownProducer)));
    }

    #[test]
    fn a_confirmation_answers_what_began_before_it_and_nothing_later() {
        let mut waiters = Waiters::default();
        waiters.on_confirmation(Confirm::Tail(1));
        let first = waiters.begin_confirmation();
        waiters.on_confirmation(Confirm::Tail(2));
        let second = waiters.begin_confirmation();
        waiters.on_confirmation(Confirm::Tail(3));
        assert_eq!((first, second), (Some(1), Some(2)));
        let confirmed: Vec<_> = waiters.confirmed(2).collect();
        assert!(matches!(confirmed[..], [Confirm::Tail(1), Confirm::Tail(2)]), "{confirmed:?}");
    }

    #[test]
    fn losing_leadership_answers_everyone_once() {
        let (mut waiters, mut outputs) = (Waiters::default(), Vec::new());
        waiters.on_commit(1, 5, Ok(Answer::Done));
        waiters.on_confirmation(Confirm::Tail(2));
        waiters.begin_confirmation();
        waiters.on_confirmation(Confirm::Tail(3));
        waiters.fail_all(&AppendError::OutcomeUnknown, &mut outputs);
        waiters.fail_all(&AppendError::OutcomeUnknown, &mut outputs);
        let mut tokens: Vec<_> = answers(&outputs).into_iter().map(|(token, _)| token).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, vec![1, 2, 3]);
    }
}
