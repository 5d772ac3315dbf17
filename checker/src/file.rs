//! Histories as files: JSON lines, so that a recorder can go on writing and people can read and cut.
//!
//! ```text
//! {"history":{"version":1,"topic":"orders","partition":0,"started_us":1793000000000000}}
//! {"append":{"client":1,"number":1,"records":2,"in_order":true,"invoked":10,"completed":20,
//!            "outcome":{"acknowledged":{"first_lsn":1,"last_lsn":2,"duplicate":false}}}}
//! {"append":{…,"expected_next_lsn":3,…,"outcome":"certainly_failed"}}         or "unknown"
//! {"read":{"reader":9,"node":2,"from_lsn":1,"invoked":30,"completed":31,"high_watermark":2,
//!          "records":[[1,1,1,0,2]]}}          runs of [LSN, client, number, index, count]
//! {"tail":{"reader":9,"node":1,"confirmed":true,"invoked":40,"completed":41,"high_watermark":2}}
//! {"trim":{"invoked":50,"before_lsn":2}}
//! {"restart":{"node":2,"at":60}}
//! {"end":{"operations":6}}
//! ```
//!
//! (An operation is one line; they are broken here for the page.) Times are microseconds since `started_us`, which is
//! Unix time and only puts several files on one clock. The n-th operation stands on line n + 2, counted from 0.
//!
//! What holds: a file without its last line is refused, since what it lacks would be taken for invented. So is a line
//! with a field that is not known, and a number that no log can hold.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::{Append, AppendOutcome, History, Operation, Read, Restart, Tail, Trim};

const VERSION: u32 = 1;

/// What a history is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    version: u32,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// When time 0 was, in microseconds of Unix time.
    pub started_us: u64,
}

impl Header {
    /// The header of a history that begins now.
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: u32, started_us: u64) -> Self {
        Self { version: VERSION, topic: topic.into(), partition, started_us }
    }
}

/// Why a history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadHistoryError {
    /// The file could not be read.
    #[error("cannot read the history: {0}")]
    Io(#[from] io::Error),
    /// It does not begin like one.
    #[error(
        "this is not a recorded history (its first line is no header): give a file that was recorded as one"
    )]
    NotAHistory,
    /// It is of a later version.
    #[error(
        "the history has version {0}, and this program knows version {VERSION}: check it with the program that recorded it"
    )]
    Version(u32),
    /// A line says nothing that a history can say.
    #[error("line {line} of the history is damaged ({reason}): record it again, or restore it")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The end is missing.
    #[error(
        "the history ends after {operations} operations without its last line: its recorder did not finish, and what it \
         lacks would be taken for invented. Record it again"
    )]
    CutShort {
        /// How many operations there are.
        operations: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    History(Header),
    Append(Append),
    Read(Read),
    Tail(Tail),
    Trim(Trim),
    Restart(Restart),
    End(End),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    operations: usize,
}

/// Writes a history, line by line.
#[derive(Debug)]
pub struct HistoryWriter<W> {
    output: W,
    operations: usize,
}

impl<W: Write> HistoryWriter<W> {
    /// Begins a history.
    ///
    /// # Errors
    /// If writing fails.
    pub fn new(output: W, header: Header) -> io::Result<Self> {
        let mut writer = Self { output, operations: 0 };
        writer.line(&Line::History(header))?;
        Ok(writer)
    }

    /// Adds an operation, with its outcome.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&mut self, operation: Operation) -> io::Result<()> {
        self.operations += 1;
        self.line(&match operation {
            Operation::Append(append) => Line::Append(append),
            Operation::Read(read) => Line::Read(read),
            Operation::Tail(tail) => Line::Tail(tail),
            Operation::Trim(trim) => Line::Trim(trim),
            Operation::Restart(restart) => Line::Restart(restart),
        })
    }

    /// Ends the history. One without an end is refused when it is read.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.line(&Line::End(End { operations: self.operations }))?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, line)?;
        self.output.write_all(b"\n")
    }
}

/// Reads a whole history.
///
/// # Errors
/// If it cannot be read, is not one, or is not whole.
pub fn read_history(input: impl BufRead) -> Result<(Header, History), ReadHistoryError> {
    let mut lines = input.lines().enumerate();
    let first = lines.next().ok_or(ReadHistoryError::NotAHistory)?.1?;
    let Ok(Line::History(header)) = serde_json::from_str(&first) else {
        return Err(ReadHistoryError::NotAHistory);
    };
    if header.version != VERSION {
        return Err(ReadHistoryError::Version(header.version));
    }
    let mut history = History::default();
    let mut end = None;
    for (place, text) in lines {
        let damaged = |reason: String| ReadHistoryError::Line { line: place + 1, reason };
        let line = serde_json::from_str(&text?).map_err(|error| damaged(error.to_string()))?;
        if end.is_some() {
            return Err(damaged("it stands behind the last line".into()));
        }
        let operation = match line {
            Line::Append(append) => Operation::Append(append),
            Line::Read(read) => Operation::Read(read),
            Line::Tail(tail) => Operation::Tail(tail),
            Line::Trim(trim) => Operation::Trim(trim),
            Line::Restart(restart) => Operation::Restart(restart),
            Line::End(last) => {
                end = Some(last.operations);
                continue;
            }
            Line::History(_) => return Err(damaged("it is a second header".into())),
        };
        check_numbers(&operation).map_err(damaged)?;
        history.push(operation);
    }
    let operations = history.operations.len();
    match end {
        Some(expected) if expected == operations => Ok((header, history)),
        Some(expected) => Err(ReadHistoryError::Line {
            line: operations + 2,
            reason: format!("it speaks of {expected} operations, and there are {operations}"),
        }),
        None => Err(ReadHistoryError::CutShort { operations }),
    }
}

/// What serde cannot know: batches have numbers and records.
fn check_numbers(operation: &Operation) -> Result<(), String> {
    match operation {
        Operation::Append(Append { number: 0, .. }) => Err("batches are numbered from 1".into()),
        Operation::Append(Append { records: 0, .. }) => Err("a batch has at least one record".into()),
        Operation::Append(Append { outcome: AppendOutcome::Acknowledged { first_lsn: 0, .. }, .. }) => {
            Err("LSNs begin at 1".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{RecordId, Records};

    fn operations() -> Vec<Operation> {
        let conditional = Append { expected_next_lsn: Some(7), ..Append::invoked(1, 2, 1, 30) };
        let outcome = AppendOutcome::Acknowledged { first_lsn: 1, last_lsn: 2, duplicate: true };
        let records: Records =
            [(1, RecordId::new(1, 1, 0)), (2, RecordId::new(1, 1, 1)), (3, RecordId::FOREIGN)]
                .into_iter()
                .collect();
        let high_watermark = Some(4);
        vec![
            Operation::Append(Append { completed: 20, outcome, ..Append::invoked(1, 1, 2, 10) }),
            Operation::Append(Append {
                outcome: AppendOutcome::CertainlyFailed,
                completed: 31,
                ..conditional
            }),
            Operation::Append(Append { in_order: false, ..Append::invoked(1, 3, 1, 40) }),
            Operation::Read(Read {
                reader: 9,
                node: 2,
                from_lsn: 1,
                invoked: 50,
                completed: 60,
                high_watermark,
                records,
                continues: true,
            }),
            Operation::Tail(Tail {
                reader: 9,
                node: 1,
                confirmed: true,
                invoked: 50,
                completed: 51,
                high_watermark: 2,
            }),
            Operation::Trim(Trim { invoked: 70, before_lsn: u64::MAX }),
            Operation::Restart(Restart { node: 3, at: 80 }),
        ]
    }

    fn written() -> String {
        let mut writer = HistoryWriter::new(Vec::new(), Header::new("orders", 3, 17)).unwrap();
        operations().into_iter().for_each(|operation| writer.write(operation).unwrap());
        String::from_utf8(writer.finish().unwrap()).unwrap()
    }

    #[test]
    fn a_written_history_reads_back_the_same() {
        let (header, history) = read_history(written().as_bytes()).unwrap();
        assert_eq!(header, Header::new("orders", 3, 17));
        assert_eq!(history.operations, operations());
    }

    #[test]
    fn a_history_cut_at_any_line_is_refused() {
        let text = written();
        let lines: Vec<&str> = text.lines().collect();
        assert!(matches!(read_history(&b""[..]), Err(ReadHistoryError::NotAHistory)));
        for count in 1..lines.len() {
            let error = read_history(lines[..count].join("\n").as_bytes()).unwrap_err();
            assert!(
                matches!(error, ReadHistoryError::CutShort { operations } if operations == count - 1),
                "{error}"
            );
        }
        let mut without_one = lines.clone();
        without_one.remove(3);
        let error = read_history(without_one.join("\n").as_bytes()).unwrap_err();
        assert!(error.to_string().contains("speaks of 7 operations, and there are 6"), "{error}");
    }

    #[test]
    fn damaged_lines_are_refused_by_their_number() {
        for (from, to, reason) in [
            ("\"client\":1,\"number\":1", "\"client\":1,\"number\":0", "numbered from 1"),
            ("\"records\":2", "\"records\":0", "at least one record"),
            ("\"first_lsn\":1", "\"first_lsn\":0", "LSNs begin at 1"),
            ("\"duplicate\"", "\"dublicate\"", "unknown field"),
            ("\"append\"", "\"apend\"", "unknown variant"),
            ("{\"append\"", "{append\"", "key must be a string"),
        ] {
            let error = read_history(written().replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(matches!(error, ReadHistoryError::Line { line: 2, .. }), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        for run in ["[0,1,1,0,2]", "[1,1,1,0,0]", "[18446744073709551615,1,1,0,2]", "[1,1,1,4294967295,2]"] {
            let error = read_history(written().replacen("[1,1,1,0,2]", run, 1).as_bytes()).unwrap_err();
            assert!(matches!(error, ReadHistoryError::Line { line: 5, .. }), "{run}: {error}");
        }
    }
}
