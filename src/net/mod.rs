//! The listeners: bytes in, use cases called, bytes out.
//!
//! What holds:
//! - Nothing is allocated from a declared length before the length is checked against its limit.
//! - A fault behind an intact frame boundary costs the request; one in the boundary costs the connection.
//! - What waits to be sent is bounded, per connection and per peer.
//! - Wire types end here: the broker's errors become codes in [`native`] alone.

pub mod native;
pub mod peer;
mod vectored;
