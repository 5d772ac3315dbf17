//! The seam to the consensus library. Its types appear in this module and nowhere else.
//!
//! What holds here:
//! - A [`Group`] does no IO and reads no clock: ticks, messages and persistence reports come in, a [`Ready`] comes out.
//! - The library's random election timeouts are overwritten after every call with ones drawn from the source that was
//!   handed in: the same inputs yield the same outputs.
//! - No proposal is ever forwarded: LSNs are stamped by the node that leads, so a proposal that travelled would carry
//!   wrong ones. `MsgPropose` is dropped in both directions.
//! - Nothing the library would answer with a panic gets through: a commit index beyond the log is refused as
//!   [`StepError::CommitBeyondLog`].
//!
//! The host's duties for every [`Ready`], in this order:
//! 1. send [`Ready::messages`] now: the leader replicates while its own sync runs;
//! 2. install [`Ready::snapshot`] if there is one;
//! 3. append [`Ready::entries`] to the log, rolling back what they replace; they are readable at once;
//! 4. queue [`Ready::vote`] behind them;
//! 5. apply [`Ready::membership`];
//! 6. hold [`Ready::held_messages`] under [`Ready::number`] until everything queued so far is synced;
//! 7. call [`Group::advance`]; and [`Group::persisted`] once that sync has returned.

mod group;
mod haste;
mod membership;
mod message;
mod rest;
mod store;
mod types;

pub use group::{Group, Ready, added_by, names};
pub use membership::{Membership, MembershipError};
pub use message::{entry_from_wire, entry_to_wire};
pub use store::{CatchingUp, ColdRead, ColdReadId, NEAR_ENTRIES};
pub use types::{GroupOptions, MembershipChange, ProposeError, ReplicaProgress, Role, StepError};
