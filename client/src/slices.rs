//! Many slices written as one: batches go to the socket by reference.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Slices in the order they are to be written; none of them is empty.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    slices: VecDeque<Bytes>,
    remaining: usize,
}

impl Slices {
    /// Adds a slice at the end.
    pub(crate) fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.remaining += slice.len();
            self.slices.push_back(slice);
        }
    }
}

impl Buf for Slices {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.slices.front().map_or(&[], |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let filled = out.iter_mut().zip(&self.slices);
        filled.map(|(slot, slice)| *slot = IoSlice::new(slice)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advancing past the end of the slices");
        self.remaining -= count;
        while let Some(front) = self.slices.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.slices.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_width_yields_the_same_bytes() {
        for step in 1..=9 {
            let mut slices = Slices::default();
            for part in ["ab", "", "cdef", "g"] {
                slices.push(Bytes::from_static(part.as_bytes()));
            }
            let mut seen = Vec::new();
            while slices.has_remaining() {
                let take = step.min(slices.chunk().len());
                seen.extend_from_slice(&slices.chunk()[..take]);
                slices.advance(take);
            }
            assert_eq!(seen, b"abcdefg");
        }
    }
}
