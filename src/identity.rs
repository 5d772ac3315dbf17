//! Who a data directory belongs to.
//!
//! What holds:
//! - Only [`format()`] and [`Newborn`] make a data directory, once, out of a missing or empty one; nothing else ever does.
//! - A broker works only on a directory of its own cluster and node, and holds its lock while it runs.
//! - Each directory carries a random id. Peers remember the first one they see of a node and refuse another:
//!   a node that lost its disk has forgotten its votes and must not vote again under its old name.
//! - The directory remembers which shards it has held. One whose files are gone is a fault, not a new shard.
//! - Each file here is replaced as a whole and carries a checksum over all of it. One that is missing, or is not what
//!   was written, stops the broker: forgetting any of it could cost a vote or a log. But for `brokers.json`: it says no more
//!   than whom to ask, where the broker's own copy of the metadata cannot tell.
//!
//! ```text
//! DATA/identity.json   format version, cluster id, node id, directory id, whether it joined; written once
//! DATA/lock            locked while a broker runs on the directory
//! DATA/peers.json      node id -> directory id, as first seen; of no node yet in a new directory
//! DATA/joined.json     what a node that joined was told; before its identity: the directory id it joins with
//! DATA/brokers.json    the brokers there were when the metadata was last followed
//! DATA/shards.json     the shards whose files were created here and not removed since
//! DATA/shards/         their logs
//! ```

mod directory;
mod error;
mod id;
mod making;

pub use directory::{Acquaintance, DataDirectory, Identity, Joined};
pub use error::IdentityError;
pub use id::{ClusterId, DirectoryId, IdError};
pub use making::{Newborn, format, is_blank};
