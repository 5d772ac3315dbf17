//! What a message declares is not what is allocated for it: measured by an allocator that counts.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]
// An allocator cannot be written without `unsafe`; this one only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use lockstep_protocol::native::{
    FetchRequest, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
};
use lockstep_protocol::peer::PeerDecoder;
use lockstep_protocol::{
    BatchBuilder, Batches, FrameDecoder, Outcome, ProducerSequence, Record, ValidationLimits, Wire, validate,
};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|bytes| bytes.set(bytes.get() + layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes this thread allocates during `work`.
fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

/// Decodes `input` with every 4 bytes of it replaced in turn by the greatest count there is. A value in
/// memory is at most ten times its bytes on the wire.
fn allocates_in_proportion<T: Wire>(input: &[u8]) {
    for at in 0..input.len().saturating_sub(3) {
        let mut hostile = input.to_vec();
        hostile[at..at + 4].fill(0xff);
        let (_, bytes) = allocated_by(|| T::decode(&hostile).is_ok());
        assert!(bytes <= 10 * input.len(), "{bytes} bytes for {} with a count at {at}", input.len());
    }
}

#[test]
fn the_counter_counts() {
    let (vector, bytes) = allocated_by(|| Vec::<u8>::with_capacity(12_345));
    assert!(bytes >= vector.capacity());
}

#[test]
fn counts_of_four_billion_allocate_nothing_to_speak_of() {
    let zeros = [0; 200];
    allocates_in_proportion::<MetadataRequest>(&zeros);
    allocates_in_proportion::<Outcome<MetadataResponse>>(&zeros);
    allocates_in_proportion::<ProduceRequest>(&zeros);
    allocates_in_proportion::<Outcome<ProduceResponse>>(&zeros);
    allocates_in_proportion::<FetchRequest>(&zeros);
}

#[test]
fn the_most_items_that_fit_take_memory_in_proportion() {
    // One topic list of as many empty names as there is room for.
    let mut hostile = vec![1];
    hostile.extend_from_slice(&1000_u32.to_le_bytes());
    hostile.resize(5 + 4 * 1000 + 1, 0);
    let (decoded, bytes) = allocated_by(|| MetadataRequest::decode(&hostile));
    assert_eq!(decoded.unwrap().topics.unwrap().len(), 1000);
    assert!(bytes <= 10 * hostile.len(), "{bytes}");
}

#[test]
fn a_frame_that_declares_four_billion_bytes_allocates_nothing() {
    let mut buffer = BytesMut::from(&[0xff; 64][..]);
    let (refused, bytes) = allocated_by(|| FrameDecoder::new(1 << 20).decode(&mut buffer).is_err());
    assert!(refused && bytes == 0, "{bytes}");
    let (refused, bytes) = allocated_by(|| PeerDecoder::new(1 << 20).decode(&mut buffer).is_err());
    assert!(refused && bytes == 0, "{bytes}");
}

#[test]
fn waiting_for_a_large_frame_allocates_nothing_yet() {
    let mut buffer = BytesMut::from(&(1_u32 << 19).to_le_bytes()[..]);
    let (frame, bytes) = allocated_by(|| FrameDecoder::new(1 << 20).decode(&mut buffer));
    assert_eq!((frame, bytes), (Ok(None), 0));
}

#[test]
fn validating_a_batch_allocates_nothing_whatever_its_lengths_say() {
    let mut builder = BatchBuilder::new();
    builder.push(&Record::new(0, vec![0xff; 300])).unwrap();
    let mut batch = builder.build(ProducerSequence::NONE).unwrap().to_vec();
    let (valid, bytes) = allocated_by(|| validate(&batch, &ValidationLimits::default()).is_ok());
    assert!(valid && bytes == 0, "{bytes}");
    for at in 57..batch.len() - 4 {
        batch[at..at + 4].fill(0x7f);
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        let (_, bytes) = allocated_by(|| validate(&batch, &ValidationLimits::default()).is_ok());
        assert_eq!(bytes, 0, "lengths at {at}");
    }
    let payload = Bytes::from(vec![0x7f; 100]);
    let (results, bytes) = allocated_by(|| Batches::new(payload).filter(Result::is_ok).count());
    assert!(results == 0 && bytes < 100, "{bytes}");
}
