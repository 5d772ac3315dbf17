//! Bugs that can be planted on purpose, to prove that the checkers bite.
//!
//! Production code asks [`is_active`] at the places where a bug would be made. Without the feature `planted` the answer
//! is the constant `false` and the compiler removes the question; with it, a thread may activate one bug at a time.

/// A mistake somebody could make here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// An acknowledgement leaves before the sync it speaks of.
    AcknowledgeBeforeSync,
}

/// Whether this thread has activated `bug`.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_active(_: Bug) -> bool {
    false
}

/// Whether this thread has activated `bug`.
#[cfg(feature = "planted")]
pub fn is_active(bug: Bug) -> bool {
    ACTIVE.get() == Some(bug)
}

/// Activates a bug in this thread, or none.
#[cfg(feature = "planted")]
pub fn activate(bug: Option<Bug>) {
    ACTIVE.set(bug);
}

#[cfg(feature = "planted")]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}
