//! What one request may hold, checked before anything is built of it.

use lockstep_protocol::native::Api;
use lockstep_protocol::{ErrorCode, ErrorOutcome, Frame};

/// Items of a request's list.
const ITEMS_MAX: u32 = 4096;
/// Bytes of a request's message: enough for [`ITEMS_MAX`] items with names of full length and without
/// positions.
const PRODUCE_MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes of any other request's message.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Whether a request may be decoded.
///
/// # Errors
/// What the client is told.
pub(super) fn check(frame: &Frame) -> Result<(), ErrorOutcome> {
    let most = if frame.api == Api::Produce { PRODUCE_MESSAGE_BYTES_MAX } else { MESSAGE_BYTES_MAX };
    let bytes = frame.meta.len();
    if bytes > most {
        let message = format!("this request's message has {bytes} bytes; it may have {most}: split it");
        return Err(ErrorOutcome::new(ErrorCode::FrameTooLarge, message));
    }
    match declared_items(frame) {
        Some(items) if items > ITEMS_MAX => {
            let message = format!("the request lists {items} items; it may list {ITEMS_MAX}: split it");
            Err(ErrorOutcome::new(ErrorCode::MalformedRequest, message))
        }
        _ => Ok(()),
    }
}

/// The count of the request's list, if it has one: behind the fields drawn in docs/wire-protocol.md.
fn declared_items(frame: &Frame) -> Option<u32> {
    let count_at = match frame.api {
        // u32 timeout_ms
        Api::Produce => 4,
        // u32 max_wait_ms, min_bytes, max_bytes
        Api::Fetch => 12,
        // the byte that says the list is there
        Api::Metadata if frame.meta.first() == Some(&1) => 1,
        _ => return None,
    };
    frame.meta.get(count_at..)?.first_chunk().map(|count| u32::from_le_bytes(*count))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use lockstep_protocol::frame::FrameKind;
    use lockstep_protocol::native::{
        FetchItem, FetchRequest, Message, MetadataRequest, ProduceItem, ProduceRequest,
    };

    use super::*;

    fn frame<M: Message>(message: &M) -> Frame {
        let mut meta = BytesMut::new();
        message.encode(&mut meta);
        let meta = meta.freeze();
        Frame { kind: FrameKind::Request, api: M::API, correlation: 1, meta, payload: Bytes::new() }
    }

    #[test]
    fn a_list_of_4096_items_with_the_longest_names_passes_and_one_more_is_refused() {
        let (topic, partition) = ("n".repeat(249), 0);
        let lists = |count: usize, topic: String| {
            let produced = ProduceItem {
                topic: topic.clone(),
                partition,
                expected_next_lsn: Some(1),
                fence: Some(1),
                position: None,
                batch_length: 0,
            };
            let fetched = FetchItem { topic: topic.clone(), partition, from_lsn: 1, max_bytes: 1 };
            [
                frame(&ProduceRequest { timeout_ms: 1, batches: vec![produced; count] }),
                frame(&FetchRequest {
                    max_wait_ms: 1,
                    min_bytes: 1,
                    max_bytes: 1,
                    items: vec![fetched; count],
                }),
                frame(&MetadataRequest { topics: Some(vec![topic; count]), create_missing: false }),
            ]
        };
        assert_eq!(check(&lists(4096, topic)[0]), Ok(()));
        for sound in lists(4096, "t".into()) {
            assert_eq!(check(&sound), Ok(()), "{:?}", sound.api);
        }
        for long in lists(4097, "t".into()) {
            assert_eq!(check(&long).unwrap_err().code, ErrorCode::MalformedRequest, "{:?}", long.api);
        }
        assert_eq!(check(&frame(&MetadataRequest { topics: None, create_missing: false })), Ok(()));
    }

    #[test]
    fn a_message_beyond_its_limit_is_refused() {
        let names = vec!["n".repeat(1 << 20)];
        let request = frame(&MetadataRequest { topics: Some(names), create_missing: false });
        assert_eq!(check(&request).unwrap_err().code, ErrorCode::FrameTooLarge);
    }
}
