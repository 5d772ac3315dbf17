//! Inputs that hold each message of the protocol once, made of its published vectors: whatever is added to the protocol,
//! both engines begin with it.

/// What kept inputs made here are called, before the vector's own name.
pub const PREFIX: &str = "message-";

/// Where a native frame's header has kind, api and correlation, and where its message begins.
const NATIVE: (usize, usize, std::ops::Range<usize>, usize) = (8, 9, 12..16, 20);
/// Where a peer frame's header has its kind, and where its message begins.
const PEER: (usize, usize) = (8, 16);
/// One frame with right lengths and checksum, and cut somewhere.
const FORM: [u8; 2] = [9, 40];

/// The target that a vector is an input for, and the input.
pub fn of_vector(name: &str, frame: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    if name.starts_with("peer-") {
        let (kind, message) = PEER;
        let head = [*frame.get(kind)?, 0];
        return Some(("peer_frame", [&FORM[..], &head, &[0, 0], frame.get(message..)?].concat()));
    }
    let (kind, api, correlation, message) = NATIVE;
    let target = if name.ends_with("-request") { "native_request" } else { "native_response" };
    let answer_or_push = frame.get(kind)?.checked_sub(2).filter(|_| target == "native_response");
    let head: Vec<u8> = answer_or_push.into_iter().chain([*frame.get(api)?, 0]).collect();
    let meta_length = u32::from_le_bytes(frame.get(message - 4..message)?.try_into().ok()?) as usize;
    let payload_length = (frame.len() - message).checked_sub(meta_length)? as u16;
    let input = [&FORM[..], &head, frame.get(correlation)?, &payload_length.to_le_bytes(), &frame[message..]];
    Some((target, input.concat()))
}
