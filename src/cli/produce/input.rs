//! Cutting standard input into records, on a thread of its own: reading a pipe blocks.
//!
//! What holds: records come in the order of the input, none is copied out of the chunk it was read in, and no
//! more than a few chunks wait.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::cli::exit::CliError;

/// Room made before each read.
const READ_BYTES: usize = 256 << 10;
/// Chunks that may wait to be sent.
const CHUNKS_WAITING_MAX: usize = 4;
/// Longest line; a longer one cannot be stored anyway.
const LINE_BYTES_MAX: usize = 64 << 20;

/// A key, perhaps, and a value.
pub(super) type KeyAndValue = (Option<Bytes>, Bytes);

/// How records are cut out of the input.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// One per line; the separator stands between key and value.
    Lines {
        /// UTF-8 of the separator.
        separator: Option<Vec<u8>>,
    },
    /// This many bytes each.
    Fixed {
        /// At least 1.
        bytes: usize,
    },
}

impl Shape {
    pub(super) fn new(raw: Option<u32>, separator: Option<char>) -> Self {
        match raw {
            Some(bytes) => Self::Fixed { bytes: bytes as usize },
            None => Self::Lines { separator: separator.map(|separator| separator.to_string().into_bytes()) },
        }
    }

    /// Takes the whole records off the front of `buffer`.
    fn cut(&self, buffer: &mut BytesMut) -> Result<Vec<KeyAndValue>, CliError> {
        match self {
            Self::Lines { separator } => {
                let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
                    return check_line(buffer.len()).map(|()| Vec::new());
                };
                let mut rest = buffer.split_to(end + 1).freeze();
                let mut records = Vec::new();
                while let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                    records.push(split_key(rest.split_to(length), separator.as_deref()));
                    rest.advance(1);
                }
                Ok(records)
            }
            Self::Fixed { bytes } => {
                let mut rest = buffer.split_to(buffer.len() / bytes * bytes).freeze();
                let mut records = Vec::with_capacity(rest.len() / bytes);
                while rest.has_remaining() {
                    records.push((None, rest.split_to(*bytes)));
                }
                Ok(records)
            }
        }
    }

    /// What is left when the input has ended.
    fn cut_last(&self, rest: Bytes) -> Result<Vec<KeyAndValue>, CliError> {
        match self {
            _ if rest.is_empty() => Ok(Vec::new()),
            Self::Lines { separator } => Ok(vec![split_key(rest, separator.as_deref())]),
            Self::Fixed { bytes } => Err(CliError::Failed(format!(
                "the input ends inside a record: {} bytes are left over and not sent, --raw says {bytes} each: complete \
                 the record, or correct --raw",
                rest.len()
            ))),
        }
    }
}

fn check_line(length: usize) -> Result<(), CliError> {
    if length <= LINE_BYTES_MAX {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "a line of more than {LINE_BYTES_MAX} bytes: use --raw for data without lines"
    )))
}

fn split_key(line: Bytes, separator: Option<&[u8]>) -> KeyAndValue {
    let Some(separator) = separator else { return (None, line) };
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
        None => (None, line),
    }
}

/// The records of standard input, a chunk at a time.
pub(super) struct Chunks {
    receiver: mpsc::Receiver<Result<Vec<KeyAndValue>, CliError>>,
}

impl Chunks {
    /// Starts to read.
    pub(super) fn of_stdin(shape: Shape) -> Result<Self, CliError> {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
        std::thread::Builder::new().name("input".to_owned()).spawn(move || {
            let result =
                read_all(io::stdin().lock(), &shape, |records| sender.blocking_send(Ok(records)).is_ok());
            if let Err(error) = result {
                // Nobody listens any more: the command has ended already.
                let _ = sender.blocking_send(Err(error));
            }
        })?;
        Ok(Self { receiver })
    }

    /// The next records; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<KeyAndValue>, CliError>> {
        self.receiver.recv().await
    }
}

/// Reads to the end, or until `take` wants no more.
fn read_all(
    mut input: impl Read,
    shape: &Shape,
    mut take: impl FnMut(Vec<KeyAndValue>) -> bool,
) -> Result<(), CliError> {
    let mut buffer = BytesMut::new();
    let mut filled = 0;
    loop {
        // `buffer` is initialised up to its length; the part behind `filled` is scratch.
        buffer.resize(filled + READ_BYTES, 0);
        let count = match input.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        buffer.truncate(filled + count);
        if count == 0 {
            break;
        }
        let records = shape.cut(&mut buffer)?;
        filled = buffer.len();
        if !records.is_empty() && !take(records) {
            return Ok(());
        }
    }
    let last = shape.cut_last(buffer.freeze())?;
    if !last.is_empty() {
        take(last);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `step` bytes a read.
    struct Dribble<'a> {
        rest: &'a [u8],
        step: usize,
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(out.len()).min(self.rest.len());
            out[..count].copy_from_slice(&self.rest[..count]);
            self.rest = &self.rest[count..];
            Ok(count)
        }
    }

    fn records(text: &[u8], step: usize, shape: &Shape) -> Result<Vec<KeyAndValue>, CliError> {
        let mut all = Vec::new();
        read_all(Dribble { rest: text, step }, shape, |records| {
            all.extend(records);
            true
        })?;
        Ok(all)
    }

    fn values(records: Vec<KeyAndValue>) -> Vec<Bytes> {
        records.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_input_is_chopped() {
        let text = b"one\n\ntwo two\r\nlast without end";
        for step in 1..=text.len() {
            let cut = values(records(text, step, &Shape::new(None, None)).unwrap());
            assert_eq!(cut, ["one", "", "two two\r", "last without end"], "step {step}");
        }
    }

    #[test]
    fn nothing_gives_no_record_and_one_newline_gives_an_empty_one() {
        assert!(records(b"", 9, &Shape::new(None, None)).unwrap().is_empty());
        assert_eq!(values(records(b"\n", 9, &Shape::new(None, None)).unwrap()), [""]);
    }

    #[test]
    fn the_first_separator_parts_key_and_value() {
        let cut = records(b"k:v:w\nno key\n:empty key\n", 7, &Shape::new(None, Some(':'))).unwrap();
        let expected = [(Some("k"), "v:w"), (None, "no key"), (Some(""), "empty key")].map(|(key, value)| {
            (key.map(|key| Bytes::from_static(key.as_bytes())), Bytes::from_static(value.as_bytes()))
        });
        assert_eq!(cut, expected);
    }

    #[test]
    fn a_separator_of_several_bytes_parts_too() {
        let cut = records("k→v\n".as_bytes(), 2, &Shape::new(None, Some('→'))).unwrap();
        assert_eq!(cut, [(Some(Bytes::from_static(b"k")), Bytes::from_static(b"v"))]);
    }

    #[test]
    fn fixed_records_are_cut_to_size_and_a_remainder_is_refused() {
        let shape = Shape::new(Some(3), None);
        for step in 1..7 {
            assert_eq!(values(records(b"abc\n\n\n", step, &shape).unwrap()), ["abc", "\n\n\n"]);
            let refused = records(b"abcd", step, &shape).unwrap_err().to_string();
            assert!(refused.contains("1 bytes are left over"), "{refused}");
        }
    }
}
