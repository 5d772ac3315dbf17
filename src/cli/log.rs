//! `lockstep log`: the files of a broker, read without it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lockstep_storage::frame::{FrameHeader, FrameType};
use lockstep_storage::inspect::{Finding, Summary, inspect};
use lockstep_storage::io::real::RealDisk;
use lockstep_storage::salvage::DAMAGED_DIRECTORY;
use lockstep_storage::{EntryKind, Envelope};
use serde_json::{Value, json};

use super::exit::CliError;
use super::output::Output;

/// What to do with a log's files.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show segments and frames: positions, terms, indexes, LSNs, checksums.
    #[command(after_help = "\
DIR is a shard's directory or any above it, up to that of a whole `lockstep up`.

Example:
  lockstep log inspect lockstep-data/node-1")]
    Inspect(LogArgs),
    /// Check every checksum. Exits with 1 on damage, and says what to do.
    #[command(after_help = "\
DIR is a shard's directory or any above it, up to that of a whole `lockstep up`. Stop the broker first: what it is
writing at the moment looks torn.

Example:
  lockstep log verify lockstep-data/node-1")]
    Verify(LogArgs),
}

/// Arguments of `inspect` and `verify`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Where the files are.
    dir: PathBuf,
}

/// How deep below the given directory shards are looked for: nodes, data, shards, shard.
const DEPTH_MAX: usize = 5;
/// What a segment file's name ends with.
const SEGMENT_EXTENSION: &str = "segment";
/// What to do about damage.
const WAY_OUT: &str = "Do not delete or edit anything. The other copies are intact as long as a majority is: keep \
                       this broker stopped, copy its files aside, and repair it from its peers";

pub(crate) fn run(command: LogCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    let (args, show) = match &command {
        LogCommand::Inspect(args) => (args, true),
        LogCommand::Verify(args) => (args, false),
    };
    let shards = shards_to_read(&args.dir)?;
    let mut damages = 0;
    for shard in &shards {
        damages += one_shard(shard, show, output)?;
    }
    Ok(ExitCode::from(u8::from(damages > 0)))
}

/// The shards below the directory given, at least one; or what to give instead.
fn shards_to_read(dir: &Path) -> Result<Vec<PathBuf>, CliError> {
    const GIVE: &str = "give a broker's data directory, one shard's, or that of a whole `lockstep up`";
    let shown = dir.display();
    let wrong = |what: String| Err(CliError::Failed(format!("{what}: {GIVE}")));
    match dir.metadata() {
        Err(error) => wrong(format!("cannot read {shown} ({error})")),
        Ok(metadata) if !metadata.is_dir() => wrong(format!("{shown} is not a directory")),
        Ok(_) => match shards_below(dir)? {
            shards if shards.is_empty() => wrong(format!("no log below {shown}")),
            shards => Ok(shards),
        },
    }
}

/// Directories below `root`, itself included, that hold segments.
fn shards_below(root: &Path) -> Result<Vec<PathBuf>, CliError> {
    let mut found = Vec::new();
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let unreadable = |error| {
            let shown = directory.display();
            CliError::Failed(format!("cannot read {shown}: {error}; run this as the broker's user"))
        };
        let mut has_segments = false;
        for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.file_type().map_err(unreadable)?.is_dir() {
                // What a repair has put aside is no log of its own.
                if depth < DEPTH_MAX && entry.file_name() != DAMAGED_DIRECTORY {
                    waiting.push((entry.path(), depth + 1));
                }
            } else {
                has_segments |=
                    entry.path().extension().is_some_and(|extension| extension == SEGMENT_EXTENSION);
            }
        }
        if has_segments {
            found.push(directory);
        }
    }
    found.sort();
    Ok(found)
}

/// Walks one shard; returns the number of damaged places.
fn one_shard(directory: &Path, show: bool, output: &mut Output) -> Result<u64, CliError> {
    let (root, name) = match (directory.parent(), directory.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        _ => (directory, ".".to_owned()),
    };
    let mut failure = Ok(());
    let mut damages = Vec::new();
    let mut file_name = String::new();
    let mut next_lsn = 1;
    let summary = inspect(&RealDisk::new(root), &name, &mut |finding| {
        if let Finding::Segment { file, header, .. } = &finding {
            file_name = (*file).to_owned();
            next_lsn = header.checkpoint.last_lsn + 1;
        }
        if let Finding::Damage { file, position, why } = &finding {
            damages.push((root.join(file).display().to_string(), *position, (*why).to_owned()));
        }
        if show && failure.is_ok() {
            let (json, text) = describe(&finding, &mut next_lsn);
            failure = output.answer(&json, || text);
        }
    });
    failure?;
    let shown = directory.display();
    let summary =
        summary.map_err(|error| CliError::Failed(format!("cannot read the log in {shown}: {error}")))?;
    if summary.vote.is_none() {
        let file = directory.join("vote").display().to_string();
        damages.push((file, 0, "neither copy of the vote is whole".to_owned()));
    }
    report(directory, &summary, &damages, output)?;
    Ok(damages.len() as u64)
}

/// The sum of a shard, and each damaged place with what to do about it.
fn report(
    directory: &Path,
    summary: &Summary,
    damages: &[(String, u64, String)],
    output: &mut Output,
) -> Result<(), CliError> {
    let damages_json = damages.iter().map(|(file, position, why)| {
        json!({ "file": file, "position": position, "why": why, "what_to_do": WAY_OUT })
    });
    let json = json!({
        "kind": "summary",
        "directory": directory.display().to_string(),
        "segments": summary.segments,
        "entries": summary.entries,
        "records": summary.records,
        "last_index": summary.last_index,
        "last_term": summary.last_term,
        "last_lsn": summary.last_lsn,
        "chain": format!("{:016x}", summary.chain),
        "vote": summary.vote.map(|vote| json!({ "term": vote.term, "voted_for": vote.voted_for })),
        "damages": damages_json.collect::<Vec<_>>(),
    });
    output.answer(&json, || {
        let verdict = if damages.is_empty() { "sound" } else { "DAMAGED" };
        let mut text = format!(
            "{}: {verdict}; {} segments, {} entries, {} records, last index {} (term {}), last LSN {}, chain {:016x}",
            directory.display(),
            summary.segments,
            summary.entries,
            summary.records,
            summary.last_index,
            summary.last_term,
            summary.last_lsn,
            summary.chain,
        );
        for (file, position, why) in damages {
            text.push_str(&format!("\n  {file}, byte {position}: {why}"));
        }
        if !damages.is_empty() {
            text.push_str(&format!("\n  {WAY_OUT}."));
        }
        text
    })?;
    Ok(())
}

/// A finding as JSON and as text. `next_lsn` follows the records.
fn describe(finding: &Finding<'_>, next_lsn: &mut u64) -> (Value, String) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_found_below_any_directory_above_them() {
        let root = tempfile::tempdir().unwrap();
        let shards = ["node-1/data/shards/1", "node-1/data/shards/2", "node-2/data/shards/1"];
        for shard in shards {
            let directory = root.path().join(shard);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("00000000000000000001.segment"), "").unwrap();
        }
        let expected: Vec<PathBuf> = shards.iter().map(|shard| root.path().join(shard)).collect();
        assert_eq!(shards_below(root.path()).unwrap(), expected);
        assert_eq!(shards_below(&root.path().join("node-2")).unwrap(), expected[2..]);
        assert_eq!(shards_below(&expected[0]).unwrap(), expected[..1]);
    }

    #[test]
    fn a_missing_path_a_file_and_an_empty_directory_are_refused_with_what_to_give() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("00000000000000000001.log");
        std::fs::write(&file, "").unwrap();
        for path in [root.path().join("missing"), file, root.path().to_owned()] {
            let text = shards_to_read(&path).unwrap_err().to_string();
            assert!(text.contains(&path.display().to_string()) && text.contains("give a broker's"), "{text}");
        }
    }

    #[test]
    fn a_segment_that_is_none_is_damage_with_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("00000000000000000001.segment"), "no segment").unwrap();
        let mut output = Output::new(true);
        let damages = one_shard(root.path(), false, &mut output).unwrap();
        assert_eq!(damages, 2, "the segment and the vote");
    }
}
