//! Bugs that can be planted on purpose, to prove that the checkers bite.
//!
//! Production code asks [`is_active`] at the places where a bug would be made. What holds:
//! - Without the feature `planted` the answer is the constant `false`, and the compiler removes question and bug.
//! - With it, a thread may activate one bug at a time; other threads, and everyone who activates none, run the code as
//!   it is meant.
//! - How often the active bug's place was come by is counted: a bug that nothing reaches is not one that was missed.

mod bug;

pub use bug::{Bug, UnknownBug};

/// Whether the bugs are compiled in. Never so in a release.
pub const COMPILED_IN: bool = cfg!(feature = "planted");

/// Whether this thread has activated `bug`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_active(_: Bug) -> bool {
    false
}

/// Whether this thread has activated `bug`.
#[cfg(feature = "planted")]
pub fn is_active(bug: Bug) -> bool {
    let active = active::BUG.get() == Some(bug);
    if active {
        active::REACHED.set(active::REACHED.get() + 1);
    }
    active
}

/// Activates a bug in this thread, or none; [`reached`] begins at 0 again. Does nothing unless [`COMPILED_IN`].
pub fn activate(_bug: Option<Bug>) {
    #[cfg(feature = "planted")]
    {
        active::BUG.set(_bug);
        active::REACHED.set(0);
    }
}

/// How often this thread has come by the place of its active bug.
pub fn reached() -> u64 {
    #[cfg(feature = "planted")]
    return active::REACHED.get();
    #[cfg(not(feature = "planted"))]
    0
}

#[cfg(feature = "planted")]
mod active {
    use crate::Bug;
    use std::cell::Cell;

    thread_local! {
        pub(super) static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
        pub(super) static REACHED: Cell<u64> = const { Cell::new(0) };
    }
}

#[cfg(all(test, feature = "planted"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_active_in_the_thread_that_activated_it_alone() {
        activate(Some(Bug::AcknowledgeBeforeSync));
        assert!(is_active(Bug::AcknowledgeBeforeSync));
        assert!(!is_active(Bug::RetryFailedSync));
        assert_eq!(reached(), 1);
        let elsewhere = std::thread::spawn(|| is_active(Bug::AcknowledgeBeforeSync));
        assert!(!elsewhere.join().expect("it only asks"));
        activate(None);
        assert!(!is_active(Bug::AcknowledgeBeforeSync));
        assert_eq!(reached(), 0);
    }
}
