//! Segments made up by the input: right where it wants to get on, and wrong anywhere else.

use bytes::Bytes;
use lockstep_storage::frame::chain_after;
use lockstep_storage::segment::{SegmentHeader, file_name};
use lockstep_storage::vote::VOTE_FILE_NAME;
use lockstep_storage::{Checkpoint, Entry, EntryKind, Envelope, EnvelopeKind, Nonce};

use super::super::choices::Choices;
use super::common::small_options;
use super::directory::{check, formatted, put};

const FRAME_HEADER_BYTES: usize = 48;
/// How much of a body its frame's header covers, where an envelope holds the checksum of the rest.
const BODY_PREFIX_BYTES: usize = 21;

/// A directory of up to four segments.
pub fn directory(input: &[u8]) {
    let mut choices = Choices::new(input);
    let options = small_options();
    let disk = formatted(&options);
    let mut tip = Tip { next_lsn: 1, ..Tip::default() };
    let mut before_bytes = 0;
    for number in 1..=1 + choices.below(4) {
        let segment = segment(&mut choices, number, before_bytes, &mut tip);
        before_bytes = segment.len() as u64;
        put(&disk, &file_name(number), &segment);
    }
    match choices.byte() {
        0 => put(&disk, VOTE_FILE_NAME, choices.rest()),
        1 => put(&disk, &format!("{}.new", file_name(choices.below(6))), choices.rest()),
        2 => put(&disk, &file_name(choices.number()), choices.rest()),
        3 => put(&disk, "notes", choices.rest()),
        _ => {}
    }
    let _left = check(&disk, &options);
}

/// Where the log of the segments so far ends.
#[derive(Clone, Copy, Default)]
struct Tip {
    index: u64,
    term: u64,
    next_lsn: u64,
    chain: u64,
}

/// `usual`, or now and then another number.
fn mostly(choices: &mut Choices, odd: bool, usual: u64) -> u64 {
    if odd { choices.number() } else { usual }
}

fn segment(choices: &mut Choices, number: u64, before_bytes: u64, tip: &mut Tip) -> Vec<u8> {
    let form = choices.byte();
    if form == 255 {
        return choices.bytes(300).to_vec();
    }
    let odd = form & 1 != 0;
    let checkpoint = Checkpoint {
        index: mostly(choices, odd, tip.index),
        term: mostly(choices, odd, tip.term),
        last_lsn: mostly(choices, odd, tip.next_lsn.wrapping_sub(1)),
        chain: mostly(choices, odd, tip.chain),
        commit: mostly(choices, form & 2 != 0, tip.index),
        log_start: mostly(choices, form & 4 != 0, 1),
        leader_time_ms: 0,
        membership_index: mostly(choices, form & 4 != 0, 0),
        membership: choices.bytes(8),
        state: choices.bytes(8),
    };
    *tip = Tip {
        index: checkpoint.index,
        term: checkpoint.term,
        next_lsn: checkpoint.last_lsn.wrapping_add(1),
        chain: checkpoint.chain,
    };
    let nonce: Nonce = [choices.byte(); 16];
    let header = SegmentHeader {
        restart: form & 8 != 0,
        repaired: form & 0x70 == 0x40,
        nonce,
        shard: mostly(choices, form & 0x70 == 0x70, 7),
        number: mostly(choices, form & 0x70 == 0x60, number),
        predecessor_bytes: mostly(choices, form & 0x70 == 0x50, before_bytes),
        checkpoint,
    };
    let mut bytes = header.encode().to_vec();
    for _ in 0..choices.below(8) {
        frame(choices, nonce, tip, &mut bytes);
    }
    if form & 0x80 != 0 {
        let at = choices.below(bytes.len() as u64) as usize;
        bytes[at] ^= choices.byte();
    }
    bytes
}

/// Appends the next frame.
fn frame(choices: &mut Choices, nonce: Nonce, tip: &mut Tip, out: &mut Vec<u8>) {
    let form = choices.byte();
    let frame_type = match form % 8 {
        0..5 => 1,
        5 => 2,
        6 => 3,
        _ => return out.extend_from_slice(&choices.bytes(200)),
    };
    let odd = form & 0x80 != 0;
    let mut body = choices.bytes(if form & 8 == 0 { 40 } else { 300 });
    if frame_type == 2 {
        body = Bytes::copy_from_slice(&mostly(choices, odd, tip.index).to_le_bytes());
    }
    let envelope =
        if frame_type == 1 && form & 16 == 0 { envelope(choices, tip, &body) } else { Bytes::new() };
    let step = u64::from(frame_type == 1);
    let entry = Entry {
        index: mostly(choices, odd, tip.index.wrapping_add(step)),
        term: mostly(choices, odd, tip.term),
        kind: EntryKind::Normal,
        envelope,
        body,
    };
    let chain = if step == 1 { chain_after(tip.chain, &entry) } else { tip.chain };
    let synced_index = mostly(choices, form & 0x20 != 0, tip.index);
    append(nonce, frame_type, &entry, synced_index, chain, out);
    if step == 1 {
        (tip.index, tip.term, tip.chain) = (entry.index, entry.term, chain);
    }
}

fn envelope(choices: &mut Choices, tip: &mut Tip, body: &[u8]) -> Bytes {
    let form = choices.byte();
    let record_count = if form & 1 == 0 { u32::from(form >> 5) } else { choices.number() as u32 };
    let envelope = Envelope {
        kind: if record_count == 0 { EnvelopeKind::State } else { EnvelopeKind::Batch },
        record_count,
        first_lsn: mostly(choices, form & 2 != 0, tip.next_lsn),
        leader_time_ms: mostly(choices, form & 4 != 0, 0) as i64,
        max_timestamp_ms: mostly(choices, form & 4 != 0, 0) as i64,
        body_crc: Envelope::checksum(body),
        state_length: mostly(choices, form & 8 != 0, 0) as u32,
        fence: 0,
    };
    tip.next_lsn = envelope.first_lsn.wrapping_add(u64::from(record_count));
    Bytes::copy_from_slice(&envelope.encode())
}

/// A frame with a right checksum, as `docs/storage-format.md` draws it.
fn append(nonce: Nonce, frame_type: u8, entry: &Entry, synced_index: u64, chain: u64, out: &mut Vec<u8>) {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[4..6].copy_from_slice(&0x4B4C_u16.to_le_bytes());
    header[6] = frame_type;
    header[8..12].copy_from_slice(&(entry.body.len() as u32).to_le_bytes());
    header[12..14].copy_from_slice(&(entry.envelope.len() as u16).to_le_bytes());
    let numbers = [entry.term, entry.index, synced_index, chain];
    for (place, number) in header[16..].chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    let covered =
        if entry.envelope.is_empty() { entry.body.len() } else { entry.body.len().min(BODY_PREFIX_BYTES) };
    let position = (out.len() as u64).to_le_bytes();
    let parts = [&nonce[..], &position, &header[4..], &entry.envelope, &entry.body[..covered]];
    let crc = parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
    header[..4].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(&entry.envelope);
    out.extend_from_slice(&entry.body);
}
