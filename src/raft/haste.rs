//! When a replica that knows no leader asks whether it would be elected, where there is reason not to wait for the election
//! timeout.
//!
//! What holds: the voters ask one after another, so that they do not split the votes, and less and less often; and while
//! somebody stands for election, nobody asks who would void it.

/// How often the first leader of a log without entries asks again, in ticks: the others may not be there yet.
const FIRST_LEADER_ASKS_TICKS: u64 = 4;

/// Ticks between the questions of one voter and of the next.
const APART_TICKS: u64 = 2;

/// When the next question is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Haste {
    /// This node's place in the order in which the voters ask.
    rank: u64,
    /// Ticks until it asks.
    wait: u64,
    /// Ticks from then on until it asks again.
    interval: u64,
    /// The latest term in which somebody was seen to stand for election.
    term: u64,
}

impl Haste {
    /// Asks after `patience` ticks for each of the `voters` before this one, in this term.
    pub(super) fn new(rank: u64, patience: u64, voters: u64, term: u64) -> Self {
        Self { rank, wait: rank * patience, interval: voters, term }
    }

    /// Asks as soon as the others ask who lost a leader.
    pub(super) fn at_once(rank: u64, voters: u64, term: u64) -> Self {
        Self::new(rank, APART_TICKS, voters, term)
    }

    /// Asks once somebody who stands for election has had time for it.
    pub(super) fn behind_others(rank: u64, voters: u64, term: u64, election_ticks: u64) -> Self {
        Self { wait: Self::time_to_stand(rank, election_ticks), ..Self::at_once(rank, voters, term) }
    }

    /// How long to leave an election to whoever stands, in ticks: votes wait for syncs, of many groups at once after a
    /// start. Different for each, or they would split the votes again and again.
    fn time_to_stand(rank: u64, election_ticks: u64) -> u64 {
        election_ticks / 4 + APART_TICKS * rank
    }

    /// A tick passes in a term; whether it is time to ask. Questions are never further apart than `election_ticks`.
    pub(super) fn is_due(&mut self, term: u64, election_ticks: u64) -> bool {
        // Before the first election it only asks whether it would be elected, which costs nobody a sync.
        let longest = if term == 0 { FIRST_LEADER_ASKS_TICKS } else { election_ticks };
        if self.term != term {
            // Somebody stands for election: votes have to be synced, and the next election would void them.
            self.term = term;
            self.wait = self.wait.max(self.interval).max(Self::time_to_stand(self.rank, election_ticks));
        }
        if self.wait > 1 {
            self.wait -= 1;
            return false;
        }
        self.wait = self.interval;
        self.interval = (2 * self.interval).min(longest).max(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ticks at which it asks, of so many, in the terms that `term_at` says.
    fn asks(mut haste: Haste, ticks: u64, term_at: impl Fn(u64) -> u64) -> Vec<u64> {
        (1..=ticks).filter(|tick| haste.is_due(term_at(*tick), 20)).collect()
    }

    #[test]
    fn questions_come_less_and_less_often_up_to_the_election_timeout() {
        assert_eq!(asks(Haste::new(1, 1, 3, 5), 70, |_| 5), [1, 4, 10, 22, 42, 62]);
        assert_eq!(
            asks(Haste::new(1, 1, 3, 0), 20, |_| 0),
            [1, 4, 8, 12, 16, 20],
            "before the first election"
        );
    }

    #[test]
    fn whoever_stands_for_election_is_left_time_to_have_the_votes_synced() {
        let stands_at = |moment| move |tick| if tick < moment { 5 } else { 6 };
        assert_eq!(asks(Haste::new(1, 2, 3, 5), 4, |_| 5), [2]);
        for rank in 1..4 {
            let waits = asks(Haste::new(rank, 2, 3, 5), 20, stands_at(2));
            assert_eq!(waits.first(), Some(&(1 + 20 / 4 + 2 * rank)), "not all at the same moment");
        }
        assert_eq!(asks(Haste::new(1, 2, 9, 5), 10, stands_at(2)), [10], "as long as between two questions");
        assert_eq!(asks(Haste::behind_others(1, 3, 5, 20), 9, |_| 5), [7]);
    }
}
