//! Lockstep protocol.
