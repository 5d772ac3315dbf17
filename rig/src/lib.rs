//! Real brokers on real file systems, and real power cuts.
//!
//! What holds:
//! - The brokers are the real program, as processes of their own. Nothing in them knows of the rig.
//! - A load of many writers and readers runs throughout, and what it was told is judged by the checker, against the
//!   final log of every replica.
//! - Nothing is left behind: see [`workspace`].
//! - What the machine cannot do is said aloud: see [`machine`].
//!
//! | module | holds |
//! |---|---|
//! | [`scenario`] | what is done to the brokers |
//! | [`load`], [`judge`] | what the users do meanwhile, and the verdict on it |
//! | [`cluster`], [`broker`], [`http`] | the brokers |
//! | [`conversation`], [`process`] | one broker's socket, one process's time and memory |
//! | [`volume`], [`tracer`] | file systems whose power can be cut, calls that fail |
//! | [`rig`], [`workspace`], [`machine`], [`command`] | the surroundings |
//! | [`measure`], [`random`], [`error`] | figures, choices, errors |

pub mod broker;
pub mod cluster;
pub mod command;
pub mod conversation;
pub mod error;
pub mod http;
pub mod judge;
pub mod load;
pub mod machine;
pub mod measure;
pub mod process;
pub mod random;
pub mod rig;
pub mod scenario;
pub mod tracer;
pub mod volume;
pub mod workspace;
