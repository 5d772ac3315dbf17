//! Planted bugs: each is compiled in, activated alone, and must be caught.
//!
//! What holds:
//! - A bug counts as caught if a rule does not hold in a run in which its place was reached, and the same run without
//!   the bug breaks none. So neither a broken simulator nor a bug that nothing comes by passes for a success.
//! - Whole-cluster runs come first. What they cannot show has a [`Scenario`] of its own.

mod members;
mod plans;
mod scenarios;
mod suite;

pub use plans::plan_for;
pub use scenarios::Scenario;
pub use suite::{Catch, Finding, Suite, table};
