//! An entry: one Raft index, and with an envelope of records also a run of LSNs.
//!
//! Invariants: an entry with an empty envelope is a system entry and counts no records (raft-rs makes such: a
//! new leader's first entry, auto-leave, a refused change). Envelope and body are the same bytes on all replicas.

use crate::envelope::{Envelope, EnvelopeError};
use bytes::Bytes;

/// The greatest body a frame may carry, in bytes: the format's absolute maximum. Admission sets lower limits.
pub const MAX_BODY_BYTES: usize = 256 << 20;

/// The greatest body of an entry without an envelope, in bytes: its frame header checksums it whole.
pub const MAX_SYSTEM_BODY_BYTES: usize = 1 << 20;

/// What Raft does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Records, state or nothing: Raft only carries it.
    Normal,
    /// A change of one voter or learner.
    Membership,
    /// A change through joint consensus.
    MembershipV2,
}

impl EntryKind {
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Membership => 1,
            Self::MembershipV2 => 2,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Normal),
            1 => Some(Self::Membership),
            2 => Some(Self::MembershipV2),
            _ => None,
        }
    }
}

/// One entry of the log. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Raft index: 1, 2, 3 …
    pub index: u64,
    /// Raft term it was proposed in.
    pub term: u64,
    /// What Raft does with it.
    pub kind: EntryKind,
    /// An encoded [`Envelope`], or empty for a system entry.
    pub envelope: Bytes,
    /// State section and record batch; for a membership entry the change itself. Opaque here.
    pub body: Bytes,
}

/// What [`Entry::verify`] finds wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The envelope does not decode.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The body does not carry the checksum its envelope names.
    #[error(
        "the body has checksum {found:#010x} and its envelope says {expected:#010x}: fetch it again from another replica"
    )]
    BodyChecksum {
        /// What the envelope says.
        expected: u32,
        /// What the body has.
        found: u32,
    },
    /// The state section would be longer than the body.
    #[error(
        "a state section of {state_length} bytes does not fit a body of {body_bytes}: fetch it again from another replica"
    )]
    StateLength {
        /// What the envelope says.
        state_length: u32,
        /// Bytes the body has.
        body_bytes: usize,
    },
    /// The body is longer than the format allows.
    #[error("a body of {found} bytes is above the format's maximum of {maximum}: send smaller batches")]
    BodyTooLong {
        /// Bytes the body has.
        found: usize,
        /// The most it may have.
        maximum: usize,
    },
}

impl Entry {
    /// The envelope, or `None` for a system entry.
    ///
    /// # Errors
    /// [`EnvelopeError`] if the bytes are not empty and no envelope.
    pub fn decode_envelope(&self) -> Result<Option<Envelope>, EnvelopeError> {
        if self.envelope.is_empty() { Ok(None) } else { Envelope::decode(&self.envelope).map(Some) }
    }

    /// Bytes of envelope and body.
    pub fn payload_bytes(&self) -> usize {
        self.envelope.len() + self.body.len()
    }

    /// Checks lengths and structure without touching the whole body, and returns the envelope.
    ///
    /// # Errors
    /// [`EntryError`] except for the checksum.
    pub fn check_shape(&self) -> Result<Option<Envelope>, EntryError> {
        let envelope = self.decode_envelope()?;
        let maximum = if envelope.is_some() { MAX_BODY_BYTES } else { MAX_SYSTEM_BODY_BYTES };
        if self.body.len() > maximum {
            return Err(EntryError::BodyTooLong { found: self.body.len(), maximum });
        }
        if let Some(Envelope { state_length, .. }) = envelope
            && state_length as usize > self.body.len()
        {
            return Err(EntryError::StateLength { state_length, body_bytes: self.body.len() });
        }
        Ok(envelope)
    }

    /// Checks the body against its envelope, checksum included: for what arrives from a peer or a disk.
    ///
    /// # Errors
    /// [`EntryError`] names what does not match.
    pub fn verify(&self) -> Result<Option<Envelope>, EntryError> {
        let envelope = self.check_shape()?;
        if let Some(Envelope { body_crc: expected, .. }) = envelope {
            let found = Envelope::checksum(&self.body);
            if found != expected {
                return Err(EntryError::BodyChecksum { expected, found });
            }
        }
        Ok(envelope)
    }
}
