//! Whole clusters in one thread from one seed: network, disks, crashes and clocks simulated.
//!
//! The simulator is another shell around the production code: the same shards, logs, frames, broker errors and client
//! decisions, with an event queue in the place of tokio, and a plan of faults in the place of bad luck. One seed gives
//! one plan and one run, bit for bit.
//!
//! ```text
//!   plan ──► world: queue ──► network ─┬─► node: server ─► replica (production) ─► disk
//!              │                       └─► clients (production's lane, retry, routes)
//!              ├─ invariants: an all-seeing observer, after each event
//!              ├─ ledger ──► lockstep-checker: what users were told, held against the logs
//!              └─ trace: one hash, or a timeline
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`plan`], [`kinds`] | what a run is going to do, drawn from the seed; the faults there are |
//! | [`world`], `process`, `scrub`, `faults`, `ending` | the run |
//! | `damage`, `layout` | what disks do to what they held for long, and where they may |
//! | [`queue`], [`network`], [`node`], [`placement`], [`server`], [`client`] | its parts |
//! | [`brokers`] | clusters with metadata, as in production: brokers that come and go, and moves that they make |
//! | [`replica`] | the production code, as it is held here |
//! | [`invariants`], [`derived`], [`ledger`] | what is checked |
//! | [`trace`], [`stats`] | what is told |
//! | [`campaign`], [`shrink`] | many runs; one run made small |
//! | [`planted`] | bugs put in on purpose, and the runs that show each |

pub mod brokers;
pub mod campaign;
pub mod client;
pub mod derived;
pub mod invariants;
pub mod kinds;
pub mod ledger;
pub mod network;
pub mod node;
pub mod placement;
pub mod plan;
pub mod planted;
pub mod queue;
pub mod replica;
pub mod server;
pub mod shrink;
pub mod stats;
pub mod trace;
pub mod world;

mod damage;
mod disk_work;
mod ending;
mod faults;
mod layout;
mod peers;
mod process;
mod scrub;
mod starting;
mod stopping;

pub use invariants::Violation;
pub use plan::Plan;
pub use stats::Stats;

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep the timeline.
    pub trace: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The rule that did not hold, if any.
    pub violation: Option<Violation>,
    /// What the run went through.
    pub stats: Stats,
    /// One number for everything that happened.
    pub trace_hash: u64,
    /// The timeline, if it was asked for.
    pub timeline: String,
}

/// Runs the plan of a seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    run_plan(Plan::draw(seed), options)
}

/// Runs a plan.
pub fn run_plan(plan: Plan, options: &Options) -> Outcome {
    let mut world = world::World::new(plan, options.trace);
    world.run();
    Outcome {
        violation: world.violation.take(),
        trace_hash: world.trace.hash(),
        timeline: world.trace.timeline(),
        stats: world.stats,
    }
}
