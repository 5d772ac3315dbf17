//! The envelope: what the log knows about a body without reading it.
//!
//! Replicated: the same 48 bytes stand on every replica. Raft carries them as the entry's context.
//!
//! ```text
//!  0       1       2       4               8
//!  +-------+-------+-------+---------------+-------------------------------+
//!  |version| kind  | zero  | record_count  | first_lsn                     |
//!  +-------+-------+-------+---------------+-------------------------------+ 16
//!  | leader_time_ms                        | max_timestamp_ms              |
//!  +---------------+---------------+-------+-------------------------------+ 32
//!  | body_crc      | state_length  | fence                                 |
//!  +---------------+---------------+---------------------------------------+ 48
//! ```
//!
//! Invariants: `first_lsn` is the log's next LSN when the entry was appended; an entry of
//! [`EnvelopeKind::State`] has no records. `body_crc` is the CRC-32C of the body from byte 21 on, so for a
//! body that is one Kafka record batch it equals the checksum its producer computed.

use crate::codec::{Fields, NUMBER_MAX};

/// Size of an encoded envelope in bytes.
pub const ENVELOPE_BYTES: usize = 48;

/// How many bytes at the front of a body the local frame header covers; [`Envelope::body_crc`] covers the rest.
///
/// 21 is where the checksummed part of a Kafka record batch v2 begins (KIP-98).
pub const BODY_PREFIX_BYTES: usize = 21;

const VERSION: u8 = 1;
const _: () = assert!(1 + 1 + 2 + 4 + 8 + 8 + 8 + 4 + 4 + 8 == ENVELOPE_BYTES);

/// What an entry with an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// Records, after an optional state section.
    Batch,
    /// A state section alone: takes a Raft index and no LSN.
    State,
}

/// The replicated description of one entry's body. See the module for the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Records or state alone.
    pub kind: EnvelopeKind,
    /// Records in the body: what the entry adds to the LSN.
    pub record_count: u32,
    /// LSN of the first record; for an entry without records the LSN the next record will get.
    pub first_lsn: u64,
    /// The leader's clock when it appended, in milliseconds since 1970, stamped non-decreasing.
    pub leader_time_ms: i64,
    /// Greatest record timestamp in the body, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// CRC-32C of the body from byte [`BODY_PREFIX_BYTES`] on, 0 if it is not longer than that.
    pub body_crc: u32,
    /// Bytes of state section before the record batch.
    pub state_length: u32,
    /// The fencing epoch the entry was admitted under.
    pub fence: u64,
}

/// Why bytes are not an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not [`ENVELOPE_BYTES`] long.
    #[error("an envelope has 48 bytes, these are {0}: the sender runs another version, upgrade both alike")]
    Length(usize),
    /// An unknown version byte.
    #[error("envelope version {0} is unknown: written by a newer broker, upgrade this one")]
    Version(u8),
    /// An unknown kind, or reserved bytes in use.
    #[error("envelope kind {kind} with reserved bytes {reserved:#06x} is unknown: upgrade this broker")]
    Kind {
        /// The kind byte.
        kind: u8,
        /// The two bytes that must be zero.
        reserved: u16,
    },
    /// A state entry that counts records, or LSNs past the end of the numbers.
    #[error(
        "envelope counts {record_count} records from LSN {first_lsn}, which its kind cannot: replace the replica it came from"
    )]
    Count {
        /// The record count claimed.
        record_count: u32,
        /// The first LSN claimed.
        first_lsn: u64,
    },
}

impl Envelope {
    /// The 48 bytes drawn above.
    pub fn encode(&self) -> [u8; ENVELOPE_BYTES] {
        let mut out = [0; ENVELOPE_BYTES];
        out[0] = VERSION;
        out[1] = match self.kind {
            EnvelopeKind::Batch => 1,
            EnvelopeKind::State => 2,
        };
        out[4..8].copy_from_slice(&self.record_count.to_le_bytes());
        out[8..16].copy_from_slice(&self.first_lsn.to_le_bytes());
        out[16..24].copy_from_slice(&self.leader_time_ms.to_le_bytes());
        out[24..32].copy_from_slice(&self.max_timestamp_ms.to_le_bytes());
        out[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        out[36..40].copy_from_slice(&self.state_length.to_le_bytes());
        out[40..48].copy_from_slice(&self.fence.to_le_bytes());
        out
    }

    /// Reads the 48 bytes drawn above.
    ///
    /// # Errors
    /// [`EnvelopeError`] for any other length, version, kind, or an impossible count.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let all: &[u8; ENVELOPE_BYTES] = bytes.try_into().map_err(|_| EnvelopeError::Length(bytes.len()))?;
        Self::decode_fields(Fields::new(all)).unwrap_or(Err(EnvelopeError::Length(bytes.len())))
    }

    fn decode_fields(mut fields: Fields<'_>) -> Option<Result<Self, EnvelopeError>> {
        let version = fields.u8()?;
        if version != VERSION {
            return Some(Err(EnvelopeError::Version(version)));
        }
        let (kind_byte, reserved) = (fields.u8()?, fields.u16()?);
        let kind = match (kind_byte, reserved) {
            (1, 0) => EnvelopeKind::Batch,
            (2, 0) => EnvelopeKind::State,
            _ => return Some(Err(EnvelopeError::Kind { kind: kind_byte, reserved })),
        };
        let envelope = Self {
            kind,
            record_count: fields.u32()?,
            first_lsn: fields.u64()?,
            leader_time_ms: fields.i64()?,
            max_timestamp_ms: fields.i64()?,
            body_crc: fields.u32()?,
            state_length: fields.u32()?,
            fence: fields.u64()?,
        };
        let Envelope { record_count, first_lsn, .. } = envelope;
        let counts_nothing = kind == EnvelopeKind::State && record_count != 0;
        let overflows = first_lsn.saturating_add(u64::from(record_count)) > NUMBER_MAX;
        if counts_nothing || overflows {
            return Some(Err(EnvelopeError::Count { record_count, first_lsn }));
        }
        Some(Ok(envelope))
    }

    /// The checksum that belongs into [`Envelope::body_crc`] for `body`.
    pub fn checksum(body: &[u8]) -> u32 {
        body.get(BODY_PREFIX_BYTES..).map_or(0, crc32c::crc32c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_envelope() -> impl Strategy<Value = Envelope> {
        let numbers = (any::<u32>(), 0..u64::MAX / 4, any::<i64>(), any::<i64>());
        (any::<bool>(), numbers, any::<u32>(), any::<u32>(), any::<u64>()).prop_map(
            |(batch, (count, first_lsn, leader_time_ms, max_timestamp_ms), body_crc, state_length, fence)| {
                Envelope {
                    kind: if batch { EnvelopeKind::Batch } else { EnvelopeKind::State },
                    record_count: if batch { count } else { 0 },
                    first_lsn,
                    leader_time_ms,
                    max_timestamp_ms,
                    body_crc,
                    state_length,
                    fence,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn an_envelope_reads_back_as_written(envelope in any_envelope()) {
            prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(envelope) = Envelope::decode(&bytes) {
                prop_assert_eq!(&envelope.encode()[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn an_unknown_version_kind_or_length_is_refused() {
        let good = Envelope {
            kind: EnvelopeKind::State,
            record_count: 0,
            first_lsn: 7,
            leader_time_ms: 1,
            max_timestamp_ms: 2,
            body_crc: 3,
            state_length: 4,
            fence: 5,
        };
        let bytes = good.encode();
        let with = |at: usize, value: u8| {
            let mut changed = bytes;
            changed[at] = value;
            Envelope::decode(&changed)
        };
        assert_eq!(with(0, 2), Err(EnvelopeError::Version(2)));
        assert_eq!(with(1, 9), Err(EnvelopeError::Kind { kind: 9, reserved: 0 }));
        assert_eq!(with(2, 1), Err(EnvelopeError::Kind { kind: 2, reserved: 1 }));
        assert_eq!(with(4, 1), Err(EnvelopeError::Count { record_count: 1, first_lsn: 7 }));
        assert_eq!(with(15, 0x80), Err(EnvelopeError::Count { record_count: 0, first_lsn: (1 << 63) + 7 }));
        assert_eq!(Envelope::decode(&bytes[..47]), Err(EnvelopeError::Length(47)));
    }
}
