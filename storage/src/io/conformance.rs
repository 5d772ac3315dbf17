//! One suite that every [`Disk`](super::Disk) sits.
