//! What to do about a failed attempt: a state machine without clock, socket or randomness of its own.
//!
//! What holds:
//!
//! - The same failures, times and jitter give the same verdicts.
//! - A failure that leaves the outcome open is tried again only if repeating is harmless ([`Repeat`]).
//! - A leader hint is followed at once, but only once in a row: two brokers that name each other cannot make
//!   a client spin.
//! - A delay is about a quarter of the time since the first attempt, from `first_delay` to `max_delay`, drawn between half
//!   and all of it, and never reaches past the budget: an outage is noticed to be over soon, and a long one costs few attempts.

use std::time::Duration;

use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::{ErrorCode, ErrorOutcome, LeaderHint};

use crate::jitter::Jitter;

/// How long and how eagerly to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the second attempt, at most.
    pub first_delay: Duration,
    /// Before any attempt, at most.
    pub max_delay: Duration,
    /// From the first attempt to the last; 0 means one attempt.
    pub budget: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(20),
            max_delay: Duration::from_secs(1),
            budget: Duration::from_secs(60),
        }
    }
}

/// Whether sending a request twice does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It does not: a read, or a produce with a sequence, which the broker stores once.
    Harmless,
    /// It may: only a failure that proves that nothing was done is tried again.
    Harmful,
}

/// Attempts for which a broker may not have heard of a topic that the metadata names.
const UNHEARD_OF_ATTEMPTS_MAX: u32 = 5;

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The broker answered with a refusal.
    Refused(ErrorOutcome),
    /// No connection could be made: the request never left.
    Unreachable,
    /// The connection was lost after the request left: it may have been carried out.
    ConnectionLost,
    /// No answer within the time limit: it may have been carried out.
    TimedOut,
    /// The metadata names no leader: the request never left.
    NoRoute,
    /// The answer is not what the protocol says it must be.
    Garbled(String),
}

impl Failure {
    /// A refusal that time will mend.
    pub(crate) fn lagging(why: &str) -> Self {
        Self::Refused(ErrorOutcome::new(ErrorCode::NotReady, why))
    }

    /// The failure of an attempt at a partition that the metadata names, after so many others. Brokers follow the metadata
    /// each at its own pace: one that has not heard of the topic yet does not make it one that is not there.
    pub(crate) fn of_named_partition(self, failures: u32) -> Self {
        let is_unheard_of = |error: &ErrorOutcome| {
            matches!(error.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
        };
        match self {
            Self::Refused(error) if is_unheard_of(&error) && failures < UNHEARD_OF_ATTEMPTS_MAX => {
                Self::lagging("the broker has not heard of the topic yet")
            }
            failure => failure,
        }
    }

    /// Whether the request may have been carried out in spite of the failure.
    #[must_use]
    pub fn leaves_outcome_open(&self) -> bool {
        match self {
            Self::ConnectionLost | Self::TimedOut | Self::Garbled(_) => true,
            Self::Unreachable | Self::NoRoute => false,
            Self::Refused(error) => {
                matches!(error.code, ErrorCode::OutcomeUnknown | ErrorCode::RequestTimedOut)
            }
        }
    }

    /// Whether another attempt of any kind can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(error) => error.code.retryable(),
            Self::Garbled(_) => false,
            _ => true,
        }
    }
}

/// Where the next attempt goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To the same broker.
    Same,
    /// To the leader the refusal named.
    Follow(LeaderHint),
    /// Wherever fresh metadata says.
    Refresh,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Wait, then try again.
    Again {
        /// How long to wait first.
        after: Duration,
        /// Where to send it.
        route: Route,
    },
    /// Trying again is of no use, or not safe.
    GiveUp,
    /// It might work yet, but the budget is spent.
    BudgetSpent,
}

/// The attempts at one request.
#[derive(Debug, Clone)]
pub struct Retry {
    policy: RetryPolicy,
    repeat: Repeat,
    started: Duration,
    failures: u32,
    followed_hint: bool,
    outcome_open: bool,
}

impl Retry {
    /// Begins at `now`, a time since any fixed moment, read from the caller's clock.
    #[must_use]
    pub fn new(policy: RetryPolicy, repeat: Repeat, now: Duration) -> Self {
        Self { policy, repeat, started: now, failures: 0, followed_hint: false, outcome_open: false }
    }

    /// Whether sending the request twice does harm.
    pub(crate) fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// How many attempts have failed so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether an attempt may have been carried out without this side having heard of it.
    #[must_use]
    pub fn outcome_open(&self) -> bool {
        self.outcome_open
    }

    /// What is left of the budget for the attempt that begins at `now`. The one attempt of a budget of 0 takes
    /// as long as it takes.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Duration {
        if self.policy.budget.is_zero() {
            return Duration::MAX;
        }
        self.policy.budget.saturating_sub(now.saturating_sub(self.started))
    }

    /// Judges one failed attempt.
    pub fn failed(&mut self, failure: &Failure, now: Duration, jitter: &mut dyn Jitter) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        self.outcome_open |= failure.leaves_outcome_open();
        let unsafe_to_repeat = self.repeat == Repeat::Harmful && failure.leaves_outcome_open();
        let unsafe_to_repeat = unsafe_to_repeat && !planted::is_active(Bug::RetryUnsafely);
        if !failure.is_retryable() || unsafe_to_repeat {
            return Verdict::GiveUp;
        }
        let route = self.route(failure);
        let follows = matches!(route, Route::Follow(_));
        let after = if follows && !self.followed_hint { Duration::ZERO } else { self.delay(now, jitter) };
        self.followed_hint = follows;
        if now.saturating_sub(self.started).saturating_add(after) >= self.policy.budget {
            return Verdict::BudgetSpent;
        }
        Verdict::Again { after, route }
    }

    fn route(&self, failure: &Failure) -> Route {
        let Failure::Refused(error) = failure else { return Route::Refresh };
        match (&error.hint, error.code) {
            (Some(hint), _) => Route::Follow(hint.clone()),
            (None, ErrorCode::BadChecksum | ErrorCode::Overloaded | ErrorCode::StorageFull) => Route::Same,
            (None, _) => Route::Refresh,
        }
    }

    /// Half of the delay that is due after so much time, and up to as much again.
    fn delay(&self, now: Duration, jitter: &mut dyn Jitter) -> Duration {
        let passed = now.saturating_sub(self.started);
        let full = (passed / 4).max(self.policy.first_delay).min(self.policy.max_delay);
        let half_us = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX / 2);
        Duration::from_micros(half_us + jitter.next() % (half_us + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jitter::SplitMix;

    const SEED: u64 = 7;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            first_delay: Duration::from_millis(10),
            max_delay: Duration::from_millis(80),
            budget: Duration::from_secs(10),
        }
    }

    fn retry(repeat: Repeat) -> Retry {
        Retry::new(policy(), repeat, Duration::ZERO)
    }

    fn refused(code: ErrorCode) -> Failure {
        Failure::Refused(ErrorOutcome::from(code))
    }

    fn not_leader(node: u64) -> Failure {
        let hint = LeaderHint { node, address: format!("b{node}:1"), term: 5 };
        Failure::Refused(ErrorOutcome::from(ErrorCode::NotLeader).with_hint(hint))
    }

    fn delay_of(verdict: Verdict) -> Duration {
        match verdict {
            Verdict::Again { after, .. } => after,
            other => panic!("expected another attempt, got {other:?}"),
        }
    }

    #[test]
    fn a_hint_is_followed_at_once_and_a_second_in_a_row_waits() {
        let mut jitter = SplitMix::new(SEED);
        let mut retry = retry(Repeat::Harmless);
        let first = retry.failed(&not_leader(2), Duration::ZERO, &mut jitter);
        assert!(
            matches!(&first, Verdict::Again { after, route: Route::Follow(hint) } if after.is_zero() && hint.node == 2)
        );
        let second = retry.failed(&not_leader(1), Duration::ZERO, &mut jitter);
        assert!(!delay_of(second).is_zero());
    }

    #[test]
    fn delays_grow_with_the_outage_up_to_the_limit_and_stay_between_half_and_all_of_it() {
        let mut jitter = SplitMix::new(SEED);
        let mut retry = retry(Repeat::Harmless);
        for (passed_ms, full_ms) in [(0, 10), (30, 10), (80, 20), (160, 40), (320, 80), (9_000, 80)] {
            let passed = Duration::from_millis(passed_ms);
            let delay = delay_of(retry.failed(&Failure::Unreachable, passed, &mut jitter));
            let full = Duration::from_millis(full_ms);
            assert!(delay >= full / 2 && delay <= full, "{delay:?} for {full:?}");
        }
    }

    #[test]
    fn an_open_outcome_is_repeated_only_if_that_is_harmless() {
        let open = [
            Failure::ConnectionLost,
            Failure::TimedOut,
            refused(ErrorCode::OutcomeUnknown),
            refused(ErrorCode::RequestTimedOut),
        ];
        for failure in open {
            let mut jitter = SplitMix::new(SEED);
            let harmful = retry(Repeat::Harmful).failed(&failure, Duration::ZERO, &mut jitter);
            assert_eq!(harmful, Verdict::GiveUp, "{failure:?}");
            let harmless = retry(Repeat::Harmless).failed(&failure, Duration::ZERO, &mut jitter);
            assert!(matches!(harmless, Verdict::Again { .. }), "{failure:?}");
        }
    }

    #[test]
    fn what_never_left_is_repeated_even_if_repeating_is_harmful() {
        let mut jitter = SplitMix::new(SEED);
        for failure in [Failure::Unreachable, Failure::NoRoute, not_leader(3)] {
            let verdict = retry(Repeat::Harmful).failed(&failure, Duration::ZERO, &mut jitter);
            assert!(matches!(verdict, Verdict::Again { .. }), "{failure:?}");
        }
    }

    #[test]
    fn a_final_refusal_is_not_repeated() {
        let mut jitter = SplitMix::new(SEED);
        let final_codes = ErrorCode::ALL.iter().filter(|code| !code.retryable());
        for code in final_codes {
            let verdict = retry(Repeat::Harmless).failed(&refused(*code), Duration::ZERO, &mut jitter);
            assert_eq!(verdict, Verdict::GiveUp, "{}", code.name());
        }
    }

    #[test]
    fn the_budget_ends_the_attempts() {
        let mut jitter = SplitMix::new(SEED);
        let mut retry = retry(Repeat::Harmless);
        let late = policy().budget - Duration::from_millis(1);
        assert_eq!(retry.failed(&Failure::TimedOut, late, &mut jitter), Verdict::BudgetSpent);
    }

    #[test]
    fn without_a_hint_the_metadata_is_asked_and_pressure_stays_with_the_broker() {
        let mut jitter = SplitMix::new(SEED);
        let route = |code| {
            let mut jitter = SplitMix::new(SEED);
            match retry(Repeat::Harmless).failed(&refused(code), Duration::ZERO, &mut jitter) {
                Verdict::Again { route, .. } => route,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(route(ErrorCode::LeaderUnknown), Route::Refresh);
        assert_eq!(route(ErrorCode::NotLeader), Route::Refresh);
        assert_eq!(route(ErrorCode::Overloaded), Route::Same);
        let lost = retry(Repeat::Harmless).failed(&Failure::ConnectionLost, Duration::ZERO, &mut jitter);
        assert!(matches!(lost, Verdict::Again { route: Route::Refresh, .. }));
    }

    #[test]
    fn no_attempt_is_given_more_than_what_is_left_of_the_budget() {
        let retry = Retry::new(policy(), Repeat::Harmless, Duration::from_secs(5));
        assert_eq!(retry.remaining(Duration::from_secs(5)), Duration::from_secs(10));
        assert_eq!(retry.remaining(Duration::from_secs(12)), Duration::from_secs(3));
        assert_eq!(retry.remaining(Duration::from_secs(99)), Duration::ZERO);
        let once = RetryPolicy { budget: Duration::ZERO, ..policy() };
        assert_eq!(
            Retry::new(once, Repeat::Harmless, Duration::ZERO).remaining(Duration::ZERO),
            Duration::MAX
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_verdicts() {
        let run = || {
            let mut jitter = SplitMix::new(SEED);
            let mut retry = retry(Repeat::Harmless);
            (0..20).map(|i| retry.failed(&not_leader(i % 3), Duration::ZERO, &mut jitter)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
    }
}
