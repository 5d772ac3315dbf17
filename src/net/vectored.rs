//! Writing many pieces with few system calls and no copy.

use std::io::{Error, ErrorKind, IoSlice};
use std::time::Duration;

use lockstep_protocol::EncodedFrame;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Pieces given to the system at once; it takes at most 1024.
const PIECES_MAX: usize = 512;

/// Writes the frames back to back. Fails if the other side takes nothing for as long as `patience`.
///
/// # Errors
/// The connection is broken, or stalled ([`ErrorKind::TimedOut`]).
pub(super) async fn write_frames(
    stream: &mut (impl AsyncWrite + Unpin),
    frames: &[EncodedFrame],
    patience: Duration,
) -> std::io::Result<u64> {
    write_slices(stream, &mut slices(frames), patience).await
}

/// What frames are written as, one after the other; none is empty.
pub(super) fn slices<'a>(frames: impl IntoIterator<Item = &'a EncodedFrame>) -> Vec<IoSlice<'a>> {
    let pieces = frames.into_iter().flat_map(|frame| std::iter::once(&frame.head).chain(&frame.payload));
    pieces.filter(|piece| !piece.is_empty()).map(|piece| IoSlice::new(piece)).collect()
}

/// Writes the slices, none of them empty, back to back; otherwise like [`write_frames`].
pub(super) async fn write_slices(
    stream: &mut (impl AsyncWrite + Unpin),
    mut rest: &mut [IoSlice<'_>],
    patience: Duration,
) -> std::io::Result<u64> {
    let mut written = 0;
    while !rest.is_empty() {
        let some = rest.len().min(PIECES_MAX);
        let count = match tokio::time::timeout(patience, stream.write_vectored(&rest[..some])).await {
            Err(_) => return Err(Error::new(ErrorKind::TimedOut, "the other side does not read")),
            Ok(Ok(0)) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => count?,
        };
        written += count as u64;
        IoSlice::advance_slices(&mut rest, count);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_order_over_a_pipe_that_takes_few_bytes_at_a_time() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let frames: Vec<EncodedFrame> = (0..700u32)
            .map(|number| EncodedFrame {
                head: Bytes::from(number.to_le_bytes().to_vec()),
                payload: vec![Bytes::new(), Bytes::from_static(b"payload")],
            })
            .collect();
        let expected: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes().to_vec()).collect();
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all)
        });
        let written = write_frames(&mut near, &frames, Duration::from_secs(30)).await.unwrap();
        drop(near);
        assert_eq!(written, expected.len() as u64);
        assert_eq!(reader.await.unwrap().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_reader_that_stopped_reading_is_given_up() {
        let (mut near, _far) = tokio::io::duplex(4);
        let frame = EncodedFrame { head: Bytes::from_static(b"more than four"), payload: Vec::new() };
        let error = write_frames(&mut near, &[frame], Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
