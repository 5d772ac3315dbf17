//! Lockstep storage.
