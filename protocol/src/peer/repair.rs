//! How a damaged replica asks its peers for what it lacks, and what they answer. Consensus has no part in it.
//!
//! ```text
//! u64 shard
//! u64 number        the question's; its answer repeats it
//! u8  tag, then:
//!   1 ask
//!   2 standing      option u64 term, u32 count, u64 voters, option confirmed: u64 commit_index, u64 commit_chain,
//!                   u64 matched_index
//!   3 fetch         u64 from_index, u64 to_index, u32 max_bytes
//!   4 entries       option u64 chain_before, u32 count, entries as in Raft messages
//!   5 fetch checkpoint
//!   6 checkpoint    u32 length, checkpoint …
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::raft_message::{Bodies, WireEntry, encode_entries, parse_entries, put_bytes};
use crate::wire::{DecodeError, Parsed, Wire, refuse, wire_fields};

/// What replicas of a shard say to each other about repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairMessage {
    /// How does your replica stand?
    Ask,
    /// The answer to [`RepairMessage::Ask`].
    Standing(Standing),
    /// Send me entries.
    Fetch {
        /// The first index wanted.
        from_index: u64,
        /// The last index wanted.
        to_index: u64,
        /// Bytes of entries wanted at most; at least one entry comes if there is any.
        max_bytes: u32,
    },
    /// The answer to [`RepairMessage::Fetch`].
    Entries {
        /// The chain value before the first entry; nothing if the first index asked for is not here.
        chain_before: Option<u64>,
        /// Entries from the first index asked for on, without a gap; none if it is missing or damaged here too.
        entries: Vec<WireEntry>,
    },
    /// Send me your oldest checkpoint.
    FetchCheckpoint,
    /// The answer to [`RepairMessage::FetchCheckpoint`]: empty if there is none to give.
    Checkpoint {
        /// As it stands in a segment's header.
        checkpoint: Bytes,
    },
}

/// How a replica stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its term; unknown if its vote is lost.
    pub term: Option<u64>,
    /// The nodes that vote on the shard, as far as it knows; a leader adds those that do no more and may win an election yet.
    pub voters: Vec<u64>,
    /// What it says as the leader, after a quorum has confirmed that it leads.
    pub confirmed: Option<Confirmed>,
}

/// What a leader knows, confirmed after the question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed {
    /// Everything through this index is committed.
    pub commit_index: u64,
    /// The chain value through it: it proves a copy of all of that.
    pub commit_chain: u64,
    /// Through this index the leader counts the asking replica's copy.
    pub matched_index: u64,
}

wire_fields!(Standing { term, voters, confirmed });
wire_fields!(Confirmed { commit_index, commit_chain, matched_index });

const TAG_ASK: u8 = 1;
const TAG_STANDING: u8 = 2;
const TAG_FETCH: u8 = 3;
const TAG_ENTRIES: u8 = 4;
const TAG_FETCH_CHECKPOINT: u8 = 5;
const TAG_CHECKPOINT: u8 = 6;

impl RepairMessage {
    pub(super) fn encode(&self, out: &mut BytesMut, payload: &mut Vec<Bytes>) {
        match self {
            Self::Ask => out.put_u8(TAG_ASK),
            Self::Standing(standing) => {
                out.put_u8(TAG_STANDING);
                standing.encode(out);
            }
            Self::Fetch { from_index, to_index, max_bytes } => {
                out.put_u8(TAG_FETCH);
                from_index.encode(out);
                to_index.encode(out);
                max_bytes.encode(out);
            }
            Self::Entries { chain_before, entries } => {
                out.put_u8(TAG_ENTRIES);
                chain_before.encode(out);
                encode_entries(entries, out, payload);
            }
            Self::FetchCheckpoint => out.put_u8(TAG_FETCH_CHECKPOINT),
            Self::Checkpoint { checkpoint } => {
                out.put_u8(TAG_CHECKPOINT);
                put_bytes(checkpoint, out);
            }
        }
    }

    pub(super) fn parse<'a>(bodies: &mut Bodies<'_>, input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, tag) = u8::parse(input)?;
        match tag {
            TAG_ASK => Ok((input, Self::Ask)),
            TAG_STANDING => {
                let (input, standing) = Standing::parse(input)?;
                Ok((input, Self::Standing(standing)))
            }
            TAG_FETCH => {
                let (input, from_index) = u64::parse(input)?;
                let (input, to_index) = u64::parse(input)?;
                let (input, max_bytes) = u32::parse(input)?;
                Ok((input, Self::Fetch { from_index, to_index, max_bytes }))
            }
            TAG_ENTRIES => {
                let (input, chain_before) = Wire::parse(input)?;
                let (input, entries) = parse_entries(bodies, input)?;
                Ok((input, Self::Entries { chain_before, entries }))
            }
            TAG_FETCH_CHECKPOINT => Ok((input, Self::FetchCheckpoint)),
            TAG_CHECKPOINT => {
                let (input, checkpoint) = bodies.bytes(input)?;
                Ok((input, Self::Checkpoint { checkpoint }))
            }
            _ => refuse(DecodeError::InvalidTag { what: "repair message", value: tag.into() }),
        }
    }
}
