//! When a replica that knows no leader asks whether it would be elected, where there is reason not to wait for the election
//! timeout.
//!
//! What holds: the voters ask one after another, so that they do not split the votes, and less and less often; and while
//! somebody stands for election, nobody asks who would void it.

use crate::random::Random;

/// How often the first leader of a log without entries asks again, in ticks: the others may not be there yet.
const FIRST_LEADER_ASKS_TICKS: u64 = 4;

/// Ticks between the questions of one voter and of the next.
const APART_TICKS: u64 = 2;

/// When the next question is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Haste {
    /// Ticks until it asks.
    wait: u64,
    /// Ticks from then on until it asks again.
    interval: u64,
    /// The latest term in which somebody was seen to stand for election.
    term: u64,
}

impl Haste {
    /// Asks after `wait` ticks, one of so many `voters`, in this term.
    pub(super) fn after(wait: u64, voters: u64, term: u64) -> Self {
        Self { wait, interval: voters, term }
    }

    /// Asks once the voters before this one have asked: `rank` is its place among them.
    pub(super) fn in_turn(rank: u64, voters: u64, term: u64) -> Self {
        Self::after(APART_TICKS * rank, voters, term)
    }

    /// Asks once somebody who stands for election has had time for it.
    pub(super) fn behind_others(voters: u64, term: u64, election_ticks: u64, random: &mut Random) -> Self {
        Self::after(time_to_stand(voters, election_ticks, random), voters, term)
    }

    /// A tick passes in a term; whether it is time to ask. Questions are never further apart than `election_ticks`.
    pub(super) fn is_due(&mut self, term: u64, election_ticks: u64, random: &mut Random) -> bool {
        // Before the first election it only asks whether it would be elected, which costs nobody a sync.
        let longest = if term == 0 { FIRST_LEADER_ASKS_TICKS } else { election_ticks };
        if self.term != term {
            // Somebody stands for election: votes have to be synced, and the next election would void them.
            self.term = term;
            self.wait = self.wait.max(time_to_stand(self.interval, election_ticks, random));
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

/// How long to leave an election to whoever stands, in ticks: votes wait for syncs, of many groups at once after a start.
/// Drawn anew each time, however long it has become: those that split the votes once would do so again and again, and an
/// order among them is none while they do not agree on who votes.
fn time_to_stand(interval: u64, election_ticks: u64, random: &mut Random) -> u64 {
    interval.max(election_ticks / 4) + random.below(election_ticks / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ticks at which it asks, of so many, in the terms that `term_at` says.
    fn asks(mut haste: Haste, ticks: u64, term_at: impl Fn(u64) -> u64) -> Vec<u64> {
        let mut random = Random::new(7);
        (1..=ticks).filter(|tick| haste.is_due(term_at(*tick), 20, &mut random)).collect()
    }

    #[test]
    fn questions_come_less_and_less_often_up_to_the_election_timeout() {
        assert_eq!(asks(Haste::after(1, 3, 5), 70, |_| 5), [1, 4, 10, 22, 42, 62]);
        assert_eq!(asks(Haste::in_turn(1, 3, 0), 20, |_| 0), [2, 5, 9, 13, 17], "before the first election");
    }

    #[test]
    fn whoever_stands_for_election_is_left_time_to_have_the_votes_synced() {
        let stands_at = |moment| move |tick| if tick < moment { 5 } else { 6 };
        assert_eq!(asks(Haste::after(2, 8, 5), 9, |_| 5), [2]);
        for (voters, earliest) in [(3, 5), (8, 8)] {
            let asked = asks(Haste::after(2, voters, 5), 40, stands_at(1))[0];
            assert!((earliest..=earliest + 10).contains(&asked), "{asked}");
        }
        let mut random = Random::new(7);
        let behind = Haste::behind_others(3, 5, 20, &mut random);
        assert!(asks(behind, 20, |_| 5)[0] >= 5);
    }

    #[test]
    fn those_that_stand_at_the_same_moment_do_not_do_so_for_ever() {
        // All have stood for long; whenever they ask at once, the votes are split, and all begin again.
        let mut random = Random::new(7);
        let mut candidates = [Haste::after(1, 20, 5); 4];
        let (mut term, mut splits) = (5, 0);
        for _ in 0..1000 {
            let asking =
                candidates.iter_mut().filter_map(|haste| haste.is_due(term, 20, &mut random).then_some(()));
            match asking.count() {
                0 => {}
                1 => return assert!(splits < 20, "{splits} splits"),
                _ => (term, splits) = (term + 1, splits + 1),
            }
        }
        panic!("nobody ever asked alone");
    }
}
