//! Loads for brokers, and honest figures of what came of them.
//!
//! What holds:
//!
//! - At a fixed rate (*open loop*) a latency counts from when the record was *to be* sent. A stall of the brokers delays
//!   the sends behind it, and each of them counts the delay. Without a rate (*closed loop*) it counts from the send.
//! - What was in flight when the time ran out is waited for, and its latency counts.
//! - A run ends in figures only if the checker finds every acknowledged record where it was said to be, on every replica, and
//!   every subscriber got every record, once.
//! - Each record has a key of 16 bytes beside its value, by which the checker knows it.
//! - Nothing here knows of a command line; the rig and the benches drive the same loads.
//!
//! ```no_run
//! # async fn example() -> Result<(), lockstep_load::LoadError> {
//! use std::time::Duration;
//! use lockstep_load::{Load, Plan, Target, run};
//!
//! let mut plan = Plan::new(Load::Produce);
//! plan.rate = Some(1_000.0);
//! plan.duration = Duration::from_secs(10);
//! let target = Target::new("127.0.0.1:7400");
//! let outcome = run(&target, &plan, &run::Stop::default(), |_| {}).await?;
//! println!("{}", outcome.json());
//! # Ok(()) }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`plan`] | what a load is made of |
//! | [`pace`] | when each send is due, and waiting for exactly that moment |
//! | [`lane`] | one stream of sends, in an open or closed loop |
//! | [`series`] | latencies and throughput, gathered by many, as figures over time |
//! | [`mod@run`], `topic`, `writer`, `subscriber`, `reader` | a load against brokers |
//! | [`audit`], `key` | the checker's judgement of it |
//! | [`outcome`] | what came of it, and as JSON |
//! | [`plot`], [`report`] | the same as pictures |
//! | [`limits`] | what the machine can do at all |

pub mod audit;
pub mod lane;
pub mod limits;
pub mod outcome;
pub mod pace;
pub mod plan;
pub mod plot;
pub mod report;
pub mod run;
pub mod series;

mod error;
mod key;
mod reader;
mod subscriber;
mod topic;
mod writer;

pub use error::LoadError;
pub use outcome::Outcome;
pub use plan::{Load, Plan, PlanError, Target};
pub use run::run;
