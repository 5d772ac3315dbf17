//! The checkpoint that opens each segment: all that is derived from the log before it.
//!
//! ```text
//!  0        8        16         24      32       40          48
//!  +--------+--------+----------+-------+--------+-----------+
//!  | index  | term   | last_lsn | chain | commit | log_start |
//!  +--------+--------+----------+-------+--------+-----------+
//!  | leader_time_ms  | membership_index | membership_length u32 | state_length u32 |
//!  +-----------------+------------------+-----------------------+------------------+ 72
//!  | membership … | state … |
//!  +--------------+---------+
//! ```
//!
//! Invariants: it stands as of the index before its segment's first. With it alone, nothing before the segment
//! is needed: the oldest one kept is the shard's snapshot (Raft §7), a few KiB, because the log is the data.

use crate::codec::Fields;
use bytes::{BufMut, Bytes, BytesMut};

/// The most an encoded checkpoint may take, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 16 << 20;

const FIXED_BYTES: usize = 8 * 8 + 4 + 4;

/// State of a shard as of one index. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The Raft index it stands at; 0 for a log that begins with it.
    pub index: u64,
    /// Term of the entry at `index`.
    pub term: u64,
    /// The last LSN given out through `index`.
    pub last_lsn: u64,
    /// Chain value through `index`; see [`crate::frame`].
    pub chain: u64,
    /// Committed index known when it was written: a lower bound.
    pub commit: u64,
    /// First LSN kept.
    pub log_start: u64,
    /// Leader time of the last entry that carried one, in milliseconds since 1970.
    pub leader_time_ms: i64,
    /// Raft index of the entry that made `membership`.
    pub membership_index: u64,
    /// The configuration at `index`. Opaque here.
    pub membership: Bytes,
    /// Producers, fence, positions. Opaque here.
    pub state: Bytes,
}

impl Checkpoint {
    /// Length of the encoded form in bytes.
    pub fn encoded_bytes(&self) -> usize {
        FIXED_BYTES + self.membership.len() + self.state.len()
    }

    /// The bytes drawn above.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_bytes());
        for number in [self.index, self.term, self.last_lsn, self.chain, self.commit, self.log_start] {
            out.put_u64_le(number);
        }
        out.put_i64_le(self.leader_time_ms);
        out.put_u64_le(self.membership_index);
        out.put_u32_le(self.membership.len() as u32);
        out.put_u32_le(self.state.len() as u32);
        out.put_slice(&self.membership);
        out.put_slice(&self.state);
        out.freeze()
    }

    /// Reads the bytes drawn above; `None` unless they are exactly one checkpoint.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let (index, term, last_lsn) = (fields.number()?, fields.number()?, fields.number()?);
        let (chain, commit, log_start) = (fields.u64()?, fields.number()?, fields.number()?);
        let (leader_time_ms, membership_index) = (fields.i64()?, fields.number()?);
        let (membership_length, state_length) = (fields.u32()? as usize, fields.u32()? as usize);
        let membership = fields.bytes(membership_length)?;
        let state = fields.bytes(state_length)?;
        let whole = fields.remaining() == 0;
        whole.then_some(Self {
            index,
            term,
            last_lsn,
            chain,
            commit,
            log_start,
            leader_time_ms,
            membership_index,
            membership,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            index: 9,
            term: 2,
            last_lsn: 70,
            chain: 0xfeed,
            commit: 8,
            log_start: 3,
            leader_time_ms: -5,
            membership_index: 4,
            membership: Bytes::from_static(b"three voters"),
            state: Bytes::from_static(b"producers"),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_as_written() {
        assert_eq!(Checkpoint::decode(&sample().encode()), Some(sample()));
    }

    #[test]
    fn a_checkpoint_short_or_long_by_one_byte_is_refused() {
        let bytes = sample().encode();
        assert_eq!(Checkpoint::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Checkpoint::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn a_checkpoint_at_the_end_of_the_numbers_is_refused() {
        for at in [0, 8, 16, 32, 40, 56] {
            let mut bytes = sample().encode().to_vec();
            bytes[at..at + 8].fill(0xff);
            assert_eq!(Checkpoint::decode(&bytes), None, "the number at byte {at}");
        }
    }

    proptest! {
        #[test]
        fn a_declared_length_beyond_the_bytes_is_refused(length in 100_u32.., at in prop::sample::select(vec![64_usize, 68])) {
            let mut bytes = sample().encode().to_vec();
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
            prop_assert_eq!(Checkpoint::decode(&bytes), None);
        }
    }
}
