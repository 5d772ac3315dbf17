//! Cutting a frame's payload into the pieces its message declares.

use bytes::Bytes;

use crate::wire::DecodeError;

/// Slices `payload` into pieces of these lengths, without copying.
pub(super) fn split(
    payload: &Bytes,
    lengths: impl Iterator<Item = u32> + Clone,
) -> Result<Vec<Bytes>, DecodeError> {
    let declared = lengths.clone().map(u64::from).sum::<u64>();
    if declared != payload.len() as u64 {
        return Err(DecodeError::PayloadMismatch { declared, actual: payload.len() as u64 });
    }
    let mut rest = payload.clone();
    Ok(lengths.map(|length| rest.split_to(length as usize)).collect())
}
