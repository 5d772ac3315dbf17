//! What a broker asks another about the cluster, and what it is told: numbered texts, whose meaning is not this crate's.
//!
//! ```text
//! u64 number        the question's, unique on its connection; the answer repeats it
//! u32 length, text …
//! ```

use bytes::{Bytes, BytesMut};

use super::raft_message::put_bytes;
use crate::wire::{Parsed, Wire, length_prefixed};

/// A question, or the answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The question's number.
    pub number: u64,
    /// What is asked or told, as versioned JSON.
    pub text: Bytes,
}

impl Numbered {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        self.number.encode(out);
        put_bytes(&self.text, out);
    }

    /// The text shares the memory of `meta`.
    pub(super) fn parse(meta: &Bytes) -> Parsed<'_, Self> {
        let (input, number) = u64::parse(meta)?;
        let (input, text) = length_prefixed(input)?;
        Ok((input, Self { number, text: meta.slice_ref(text) }))
    }
}
