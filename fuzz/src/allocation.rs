//! An allocator that counts, so that an input which makes the product allocate beyond its size class is a find.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// No single allocation may be larger: beyond it the process ends, which the fuzzer reports.
const ALLOCATION_BYTES_MAX: usize = 512 << 20;
/// What decoding may take beside a multiple of its input: error texts, first buffers.
const ALLOWANCE_BYTES: usize = 4 << 10;
/// What a byte of input may become in memory: an empty string is 4 bytes on the wire and 24 here.
const BYTES_PER_BYTE: usize = 16;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came, or refused.
#[allow(unsafe_code, reason = "an allocator cannot be written without; this one only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_BYTES_MAX {
            return std::ptr::null_mut();
        }
        ALLOCATED.with(|bytes| bytes.set(bytes.get() + layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes this thread allocates during `work`, freed or not.
pub fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

/// Does `work` on an input of `length` bytes.
///
/// # Panics
/// If it allocates more than such an input is worth.
pub fn within_size_class<T>(length: usize, work: impl FnOnce() -> T) -> T {
    within(ALLOWANCE_BYTES + BYTES_PER_BYTE * length, work)
}

/// Does `work`.
///
/// # Panics
/// If it allocates more than `limit` bytes.
pub fn within<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let (result, bytes) = allocated_by(work);
    assert!(bytes <= limit, "{bytes} bytes were allocated for an input that is worth {limit}");
    result
}
