//! `lockstep log inspect`: each segment and frame as a line.

use lockstep_storage::frame::{FrameHeader, FrameType};
use lockstep_storage::inspect::Finding;
use lockstep_storage::{EntryKind, Envelope};
use serde_json::{Value, json};

/// A finding as JSON and as text. `next_lsn` follows the records.
pub(super) fn describe(finding: &Finding<'_>, next_lsn: &mut u64) -> (Value, String) {
    match finding {
        Finding::Segment { file, file_bytes, header } => (
            json!({
                "kind": "segment", "file": file, "bytes": file_bytes, "number": header.number, "shard": header.shard,
                "restart": header.restart, "base_index": header.checkpoint.index, "base_term": header.checkpoint.term,
                "base_lsn": header.checkpoint.last_lsn, "log_start": header.checkpoint.log_start,
            }),
            format!(
                "segment {file}: {file_bytes} bytes, shard {}, after index {} (term {}) and LSN {}{}",
                header.shard,
                header.checkpoint.index,
                header.checkpoint.term,
                header.checkpoint.last_lsn,
                if header.restart { ", restarts the log" } else { "" }
            ),
        ),
        Finding::Frame { position, header, envelope } => frame(*position, header, *envelope, next_lsn),
        Finding::End { position, unused_bytes } => (
            json!({ "kind": "end", "position": position, "unused_bytes": unused_bytes }),
            format!("  {position:>10}  end, {unused_bytes} bytes behind it are unused or torn"),
        ),
        Finding::Damage { file, position, why } => (
            json!({ "kind": "damage", "file": file, "position": position, "why": why }),
            format!("  {position:>10}  DAMAGE in {file}: {why}"),
        ),
    }
}

fn frame(
    position: u64,
    header: &FrameHeader,
    envelope: Option<&Envelope>,
    next_lsn: &mut u64,
) -> (Value, String) {
    let kind = match (header.frame_type, header.kind, envelope) {
        (FrameType::Seal, ..) => "seal",
        (FrameType::Footer, ..) => "footer",
        (FrameType::Entry, EntryKind::Normal, Some(envelope)) if envelope.record_count > 0 => "batch",
        (FrameType::Entry, EntryKind::Normal, _) => "system",
        (FrameType::Entry, ..) => "membership",
    };
    let records = envelope.map_or(0, |envelope| u64::from(envelope.record_count));
    let first_lsn = *next_lsn;
    *next_lsn += records;
    let lsns = if records > 0 { format!(", LSN {first_lsn}–{}", *next_lsn - 1) } else { String::new() };
    let json = json!({
        "kind": kind, "position": position, "index": header.index, "term": header.term,
        "synced_index": header.synced_index, "body_bytes": header.body_length,
        "chain": format!("{:016x}", header.chain), "records": records,
        "first_lsn": (records > 0).then_some(first_lsn),
        "leader_time_ms": envelope.map(|envelope| envelope.leader_time_ms),
        "body_crc": envelope.map(|envelope| format!("{:08x}", envelope.body_crc)),
    });
    let text = format!(
        "  {position:>10}  {kind:<10} index {} term {}{lsns}, {} bytes, synced {}, chain {:016x}",
        header.index, header.term, header.body_length, header.synced_index, header.chain
    );
    (json, text)
}
