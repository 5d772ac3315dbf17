//! When a replica that knows no leader asks whether it would be elected, where there is reason not to wait for the election
//! timeout.
//!
//! What holds: the voters ask one after another, so that they do not split the votes, and less and less often; and while
//! somebody stands for election, nobody asks who would void it.

/// How often the first leader of a log without entries asks again, in ticks: the others may not be there yet.
const FIRST_LEADER_ASKS_TICKS: u64 = 4;

/// When the next question is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Haste {
    /// Whose turn is first is shifted by this, so that the leaders of many groups spread.
    pub(super) rotation: u64,
    /// Ticks until it asks.
    wait: u64,
    /// Ticks from then on until it asks again.
    interval: u64,
    /// The latest term in which somebody was seen to stand for election.
    term: u64,
}

impl Haste {
    /// Asks after `wait` ticks; `voters` are asking in turn, in this term.
    pub(super) fn new(rotation: u64, wait: u64, voters: u64, term: u64) -> Self {
        Self { rotation, wait, interval: voters, term }
    }

    /// A tick passes in a term; whether it is time to ask. Questions are never further apart than `election_ticks`.
    pub(super) fn is_due(&mut self, term: u64, election_ticks: u64) -> bool {
        // Before the first election it only asks whether it would be elected, which costs nobody a sync.
        let longest = if term == 0 { FIRST_LEADER_ASKS_TICKS } else { election_ticks };
        if self.term != term {
            // Somebody stands for election: votes have to be synced, and the next election would void them.
            self.term = term;
            self.wait = self.wait.max(self.interval);
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
        assert_eq!(asks(Haste::new(0, 1, 3, 5), 70, |_| 5), [1, 4, 10, 22, 42, 62]);
        assert_eq!(
            asks(Haste::new(0, 1, 3, 0), 20, |_| 0),
            [1, 4, 8, 12, 16, 20],
            "before the first election"
        );
    }

    #[test]
    fn whoever_stands_for_election_is_left_time_to_have_the_votes_synced() {
        let stands_at = |moment| move |tick| if tick < moment { 5 } else { 6 };
        let undisturbed = asks(Haste::new(0, 2, 8, 5), 9, |_| 5);
        assert_eq!(undisturbed, [2]);
        assert_eq!(asks(Haste::new(0, 2, 8, 5), 9, stands_at(2)), [9], "as long as between two questions");
    }
}
