//! Groups at rest: time passes more slowly where nothing happens.
//!
//! What holds:
//! - A group is quiet while its leader is known and nothing is under way: all it has is committed and synced, and, of a
//!   leader, held and known to be committed by every replica that answers. Quiet for half an election timeout, it rests.
//! - At rest one tick in [`TICKS_AT_REST`] counts: heartbeats, election timeouts and the leader's look at its quorum come
//!   by that much later, at the leader and at its followers alike.
//! - Whatever is said or asked wakes it, except heartbeats and their answers; so does the loss of its leader's broker, for
//!   which nobody waits for an election timeout.
//!
//! Leader and followers begin to rest by themselves, about at the same time. A leader that is awake while a follower rests
//! speaks to it more often than it needs. A follower that is awake while its leader rests hears of it before its election
//! timeout, since it rests again before that; and if not, it asks for pre-votes, and the leader answers with a heartbeat.

/// At rest one tick in so many counts.
const TICKS_AT_REST: u64 = 10;

/// How long a group has been quiet, and how time passes for it.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Ticks that it has been quiet for.
    quiet: u64,
    /// Ticks at rest since the last that counted.
    skipped: u64,
    /// Quiet for so long, it rests.
    after: u64,
}

impl Rest {
    /// Awake, of a group with an election timeout of so many ticks.
    pub(super) fn new(election_ticks: usize) -> Self {
        Self { after: (election_ticks as u64 / 2).max(1), ..Self::default() }
    }

    /// Something happens.
    pub(super) fn wake(&mut self) {
        (self.quiet, self.skipped) = (0, 0);
    }

    /// Whether it is at rest.
    pub(super) fn is_resting(&self) -> bool {
        self.quiet >= self.after
    }

    /// A tick passes; returns whether it counts.
    pub(super) fn counts(&mut self) -> bool {
        if !self.is_resting() {
            return true;
        }
        self.skipped += 1;
        let counts = self.skipped == TICKS_AT_REST;
        self.skipped %= TICKS_AT_REST;
        counts
    }

    /// A tick has counted, and the group was quiet then or not.
    pub(super) fn note(&mut self, quiet: bool) {
        match quiet {
            true if self.is_resting() => {}
            true => self.quiet += 1,
            false => self.wake(),
        }
    }

    /// How many ticks pass before the last of so many (at least one) that count.
    pub(super) fn ticks_before(&self, counted: u64) -> u64 {
        match self.is_resting() {
            // Awake it may come to rest meanwhile; then that tick is later than said.
            false => counted - 1,
            true => counted * TICKS_AT_REST - self.skipped - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION_TICKS: usize = 10;

    fn resting() -> Rest {
        let mut rest = Rest::new(ELECTION_TICKS);
        for _ in 0..ELECTION_TICKS / 2 {
            assert!(rest.counts());
            rest.note(true);
        }
        assert!(rest.is_resting());
        rest
    }

    #[test]
    fn time_passes_more_slowly_at_rest_until_something_happens() {
        let mut rest = resting();
        let counted = (0..5 * TICKS_AT_REST).filter(|_| rest.counts()).count();
        assert_eq!(counted, 5);
        rest.wake();
        assert!(rest.counts());
        rest.note(false);
        assert!(rest.counts());
    }

    #[test]
    fn it_is_told_exactly_how_many_ticks_do_not_matter() {
        for counted in 1..4 {
            for skipped in 0..2 * TICKS_AT_REST {
                let mut rest = resting();
                assert!((0..skipped).filter(|_| rest.counts()).count() < 2);
                let before = rest.ticks_before(counted);
                let seen = (0..before).filter(|_| rest.counts()).count() as u64;
                assert_eq!((seen, rest.counts()), (counted - 1, true), "{counted} after {skipped}");
            }
        }
        assert_eq!(Rest::new(ELECTION_TICKS).ticks_before(3), 2);
    }
}
