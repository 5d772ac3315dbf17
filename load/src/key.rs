//! Which record of a run a record is: its key says so, and the checker finds each again by it.
//!
//! ```text
//! 0   u32  the run's tag
//! 4   u32  the lane that sent it
//! 8   u32  the send's number in its lane, from 1
//! 12  u32  the record's place in its send, from 0
//! ```
//!
//! A key, and not a part of the value: the values of a lane are one allocation, which is shared.

use bytes::Bytes;
use lockstep_checker::RecordId;

/// Bytes of a key.
pub const KEY_BYTES: usize = 16;

/// The key of a record. Big-endian.
pub(crate) fn of(tag: u32, lane: u32, number: u32, index: u32) -> Bytes {
    let mut key = [0; KEY_BYTES];
    for (place, part) in key.chunks_exact_mut(4).zip([tag, lane, number, index]) {
        place.copy_from_slice(&part.to_be_bytes());
    }
    Bytes::copy_from_slice(&key)
}

/// Whose a record of this run is, as the checker counts; `None` for a record of anybody else's.
pub(crate) fn id(key: Option<&[u8]>, tag: u32) -> Option<RecordId> {
    let key: [u8; KEY_BYTES] = key?.try_into().ok()?;
    let part = |at: usize| key[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    (part(0) == tag).then(|| RecordId::new(client(part(4)), part(8).into(), part(12)))
}

/// The client that a lane is to the checker.
pub(crate) fn client(lane: u32) -> u64 {
    u64::from(lane) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_a_strangers_is_not() {
        let key = of(7, 3, 9, 2);
        assert_eq!(id(Some(&key), 7), Some(RecordId::new(4, 9, 2)));
        assert_eq!(id(Some(&key), 8), None);
        assert_eq!(id(Some(&key[..15]), 7), None);
        assert_eq!(id(None, 7), None);
    }
}
