//! Little-endian fields, read with bounds and written in order.
//!
//! Invariant: nothing here allocates from a length it has not compared with the bytes that remain.

use bytes::Bytes;

/// The greatest index, LSN, term, length or sequence a disk can show: nothing that is counted up from 1 gets there,
/// and one more, or a batch more, never overflows.
pub(crate) const NUMBER_MAX: u64 = i64::MAX as u64;

/// Takes fields off the front of a slice; `None` once it is too short.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number that is counted up from 1; `None` also for one above [`NUMBER_MAX`].
    pub(crate) fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number <= NUMBER_MAX)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next `length` bytes, copied.
    pub(crate) fn bytes(&mut self, length: usize) -> Option<Bytes> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Bytes::copy_from_slice(taken))
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }
}

/// Rounds `length` up to a whole number of `unit`s.
pub(crate) const fn round_up(length: usize, unit: usize) -> usize {
    length.div_ceil(unit) * unit
}
