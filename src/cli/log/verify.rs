//! `lockstep log verify`: one shard's files, judged as the broker would.

use std::path::Path;
use std::sync::Arc;

use lockstep_storage::inspect::{Finding, Summary, inspect};
use lockstep_storage::io::{Disk, real::RealDisk};
use lockstep_storage::salvage::{DAMAGED_DIRECTORY, Survey, SurveyError};
use lockstep_storage::{LogOptions, Vote};
use serde_json::json;

use super::advice::{Advice, keep_all};
use super::copies::Copies;
use super::show::describe;
use crate::cli::exit::CliError;
use crate::cli::output::Output;

/// Reads one shard and reports on it; says whether anything is damaged.
pub(super) fn one_shard(
    directory: &Path,
    show: bool,
    copies: &mut Copies,
    output: &mut Output,
) -> Result<bool, CliError> {
    let looked = look(directory, show, copies, output)?;
    report(directory, &looked, output)?;
    Ok(looked.is_damaged())
}

/// What is to be said of one shard.
struct Looked {
    summary: Summary,
    vote: Option<Vote>,
    advice: Vec<Advice>,
}

impl Looked {
    fn is_damaged(&self) -> bool {
        self.advice.iter().any(|advice| advice.is_damage)
    }
}

fn look(directory: &Path, show: bool, copies: &mut Copies, output: &mut Output) -> Result<Looked, CliError> {
    let (root, name) = match (directory.parent(), directory.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        _ => (directory, ".".to_owned()),
    };
    let shown = |file: &str| root.join(file).display().to_string();
    let unreadable = |error: std::io::Error| {
        CliError::Failed(format!("cannot read the log in {}: {error}", directory.display()))
    };
    let disk = Arc::new(RealDisk::new(root));
    let Walked { summary, shard, damages, end } = walk(&disk, &name, show, output)?.map_err(unreadable)?;
    // Where no header is whole, the directory's name is all that tells the shard.
    let shard = shard.or_else(|| name.parse().ok()).unwrap_or(0);
    let options = LogOptions { shard, ..LogOptions::default() };
    let in_shard = |file: &str| directory.join(file).display().to_string();
    let (mut advice, vote) = match Survey::take(disk.clone(), &name, &options) {
        Ok(survey) => {
            copies.note(shard, &survey);
            (Advice::of_survey(&survey, in_shard), survey.vote())
        }
        Err(SurveyError::Io { error, .. }) => return Err(unreadable(error)),
        Err(error) => (vec![Advice::refused(in_shard(""), &error.to_string())], summary.vote),
    };
    if advice.is_empty() {
        let found = damages.iter();
        advice.extend(found.map(|(file, position, why)| Advice::unreadable(shown(file), *position, why)));
    }
    if let Some((file, position, bytes)) = end.filter(|(_, _, bytes)| *bytes > 0 && advice.is_empty()) {
        advice.push(Advice::torn_tail(shown(&file), position, bytes));
    }
    if disk.exists(&format!("{name}/{DAMAGED_DIRECTORY}")).map_err(unreadable)? {
        advice.push(Advice::repair_begun(in_shard(DAMAGED_DIRECTORY)));
    }
    Ok(Looked { summary, vote, advice })
}

/// What one pass over the files told.
struct Walked {
    summary: Summary,
    shard: Option<u64>,
    damages: Vec<(String, u64, String)>,
    /// Where the last segment's frames end, and how many bytes stand behind that.
    end: Option<(String, u64, u64)>,
}

/// Walks the files, showing all of it if wanted.
fn walk(
    disk: &RealDisk,
    name: &str,
    show: bool,
    output: &mut Output,
) -> Result<std::io::Result<Walked>, CliError> {
    let mut failure = Ok(());
    let (mut shard, mut damages, mut end) = (None, Vec::new(), None);
    let (mut segment, mut next_lsn) = (String::new(), 1);
    let summary = inspect(disk, name, &mut |finding| {
        match &finding {
            Finding::Segment { file, header, .. } => {
                (segment, end, next_lsn) = ((*file).to_owned(), None, header.checkpoint.last_lsn + 1);
                shard = Some(header.shard);
            }
            Finding::Damage { file, position, why } => {
                damages.push(((*file).to_owned(), *position, (*why).to_owned()));
            }
            Finding::End { position, unused_bytes } => {
                end = Some((segment.clone(), *position, *unused_bytes));
            }
            Finding::Frame { .. } => {}
        }
        if show && failure.is_ok() {
            let (json, text) = describe(&finding, &mut next_lsn);
            failure = output.answer(&json, || text);
        }
    });
    failure?;
    Ok(summary.map(|summary| Walked { summary, shard, damages, end }))
}

/// The sum of a shard, and each thing found with what to do about it.
fn report(directory: &Path, looked: &Looked, output: &mut Output) -> Result<(), CliError> {
    let Looked { summary, vote, advice } = looked;
    let of = |damage: bool| advice.iter().filter(move |advice| advice.is_damage == damage).map(Advice::json);
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
        "vote": vote.map(|vote| json!({ "term": vote.term, "voted_for": vote.voted_for })),
        "damages": of(true).collect::<Vec<_>>(),
        "notes": of(false).collect::<Vec<_>>(),
    });
    let damaged = looked.is_damaged();
    output.answer(&json, || {
        let mut text = format!(
            "{}: {}; {} segments, {} entries, {} records, last index {} (term {}), last LSN {}, chain {:016x}",
            directory.display(),
            if damaged { "DAMAGED" } else { "sound" },
            summary.segments,
            summary.entries,
            summary.records,
            summary.last_index,
            summary.last_term,
            summary.last_lsn,
            summary.chain,
        );
        text.extend(advice.iter().map(Advice::text));
        if damaged {
            text.push_str(&keep_all());
        }
        text
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use bytes::Bytes;
    use lockstep_storage::{Checkpoint, Entry, EntryKind, Log, RollState};

    use super::*;

    const SECOND: &str = "00000000000000000002.segment";

    /// Three segments of three entries each; the last is sealed.
    fn log() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(root.path()));
        let options = LogOptions { shard: 7, ..LogOptions::default() };
        Log::create(disk.clone(), "7", &options, Checkpoint::default(), [1; 16]).unwrap();
        let mut log = Log::recover(disk, "7", options, &mut |_| ()).unwrap().log;
        for index in 1..=9_u64 {
            if index % 3 == 1 && index > 1 {
                log.roll(RollState::default(), [index as u8; 16]).unwrap();
            }
            let (envelope, body) = (Bytes::new(), Bytes::from(vec![index as u8; 500]));
            log.append(Entry { index, term: 1, kind: EntryKind::Normal, envelope, body }).unwrap();
        }
        for _ in 0..2 {
            let outcome = log.take_group().unwrap().run();
            log.group_done(outcome).unwrap();
            log.seal();
        }
        root
    }

    fn overwrite(root: &Path, file: &str, position: u64) {
        let path = root.join("7").join(file);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"rot", position).unwrap();
    }

    /// A kind of advice, and the entries it is about.
    type Said = (&'static str, Option<u64>, Option<u64>);

    /// What is said, and whether it is damage.
    fn said(root: &Path, copies: &mut Copies) -> (Vec<Said>, bool) {
        let looked = look(&root.join("7"), false, copies, &mut Output::new(true)).unwrap();
        let said = looked.advice.iter().map(|advice| (advice.kind, advice.entries.0, advice.entries.1));
        (said.collect(), looked.is_damaged())
    }

    #[test]
    fn each_kind_of_damage_is_told_with_what_is_missing() {
        let cases: [(&str, u64, Said); 3] = [
            (SECOND, 4096 + 548 + 60, ("hole", Some(5), Some(5))),
            (SECOND, 20, ("header_lost", Some(4), Some(6))),
            ("00000000000000000003.segment", 20, ("open_end", Some(7), None)),
        ];
        for (file, position, expected) in cases {
            let root = log();
            assert_eq!(said(root.path(), &mut Copies::default()), (vec![], false));
            overwrite(root.path(), file, position);
            assert_eq!(said(root.path(), &mut Copies::default()), (vec![expected], true));
        }
        let root = log();
        [20, 4116].iter().for_each(|position| overwrite(root.path(), "vote", *position));
        assert_eq!(said(root.path(), &mut Copies::default()), (vec![("vote_lost", None, None)], true));
        (1..=3).for_each(|number| overwrite(root.path(), &format!("{number:020}.segment"), 20));
        let all = vec![("open_end", None, None), ("vote_lost", None, None)];
        assert_eq!(said(root.path(), &mut Copies::default()), (all, true));
    }

    #[test]
    fn a_torn_tail_and_a_repair_under_way_are_no_damage() {
        let root = log();
        let last = root.path().join("7/00000000000000000003.segment");
        let length = last.metadata().unwrap().len();
        std::fs::File::options().write(true).open(last).unwrap().write_all_at(b"torn", length).unwrap();
        std::fs::create_dir(root.path().join("7/damaged")).unwrap();
        let expected = vec![("torn_tail", None, None), ("repair_begun", None, None)];
        assert_eq!(said(root.path(), &mut Copies::default()), (expected, false));
    }

    #[test]
    fn a_segment_that_is_none_is_damage_with_a_way_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("7")).unwrap();
        std::fs::write(root.path().join("7/00000000000000000001.segment"), "no segment").unwrap();
        let (said, damaged) = said(root.path(), &mut Copies::default());
        assert_eq!((said.len(), damaged), (2, true), "the segment and the vote");
    }
}
