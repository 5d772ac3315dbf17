//! What decides in this client, for a host that brings its own network and clock: the simulator.
//!
//! The async client is one shell around these types; whoever uses them directly keeps its duties:
//!
//! 1. send what [`Lane::next_dispatch`] gives, in that order, over one connection at a time;
//! 2. hand the answer of the *oldest* batch that is on its way to [`Lane::front_stored`];
//! 3. if its attempt failed, ask [`judge`]: wait and call [`Lane::resend`], or call [`Lane::front_failed`];
//! 4. take every fetched payload through [`Position::take`] before anybody sees it;
//! 5. subscribe with what [`Following::subscribe`] says, one subscription at a time, hand it every push of it and no other,
//!    and, where it ended, ask [`judge`] when to subscribe again.

pub use crate::attempt::{Target, judge};
pub use crate::consumer::following::{Ended, Following, Pushed, Window};
pub use crate::consumer::verify::Position;
pub use crate::producer::lane::{Conditions, Dispatch, Identity, Lane, LaneSettings};
