//! Lockstep: a replicated log store that writes every payload once.
//!
//! Imports run one way, from the bottom of this list to its top:
//!
//! | module | what it holds |
//! |---|---|
//! | [`raft`] | the seam to the consensus library: the only module that sees its types |
//! | [`shard`] | one replica of one log: the synchronous, deterministic turn |
//! | [`replica`] | a shard's life in its broker: opened, stopped by its disk, repaired from its peers, opened again |
//! | [`engine`] | the tokio shell around shards: worker loops, disk workers, ticks |
//! | [`cluster`] | topics and placement, as records of one more of our own logs |
//! | [`broker`] | the use cases: produce, fetch, subscribe, trim …; no wire types |
//! | [`net`] | listeners: the native protocol and the peers |
//! | [`admin`] | the REST control path |
//! | [`server`] | the composition of all of it, in one place |
//! | [`cli`] | the `lockstep` command |

pub mod admin;
pub mod broker;
mod checked_file;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod identity;
pub mod metrics;
pub mod net;
pub mod raft;
pub mod random;
pub mod replica;
pub mod server;
pub mod shard;
