//! `lockstep log`: the files of a broker, read without it.

mod advice;
mod copies;
mod show;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use lockstep_storage::salvage::DAMAGED_DIRECTORY;

use super::exit::CliError;
use super::output::Output;
use copies::Copies;

/// What to do with a log's files.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show segments and frames: positions, terms, indexes, LSNs, checksums.
    #[command(after_help = "\
DIR is a shard's directory or any above it, up to that of a whole `lockstep up`.

Example:
  lockstep log inspect lockstep-data/node-1")]
    Inspect(LogArgs),
    /// Check every checksum. Exits with 4 on damage, and says what is wrong and what to do.
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
/// The exit code where something is damaged: other than that of a command that could not be done.
const DAMAGED: u8 = 4;

pub(crate) fn run(command: LogCommand, output: &mut Output) -> Result<ExitCode, CliError> {
    let (args, show) = match &command {
        LogCommand::Inspect(args) => (args, true),
        LogCommand::Verify(args) => (args, false),
    };
    let mut copies = Copies::default();
    let mut damaged = false;
    for shard in shards_to_read(&args.dir)? {
        damaged |= verify::one_shard(&shard, show, &mut copies, output)?;
    }
    copies.report(&args.dir, output)?;
    Ok(if damaged { ExitCode::from(DAMAGED) } else { ExitCode::SUCCESS })
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
}
