//! Small JSON files that are replaced as a whole and vouch for each of their bytes.
//!
//! What holds:
//! - After a crash, a file holds its old content or its new, never a mixture: written beside, synced, renamed, and the
//!   directory synced.
//! - A file that is read is the file that was written: one changed bit anywhere in it, the checksum included, is found.
//! - It stays JSON that people and other programs can read: the checksum is its last field, and of fixed form.
//!
//! ```text
//! {                        ┐
//!   "version": 1,          │ covered by the checksum
//!   "node": 2,             ┘ up to and without this last comma
//!   "crc32c": "0a1b2c3d"     eight digits, lower case
//! }                          and a line feed
//! ```

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckedFileError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// What every file ends with, once its checksum stands in it.
fn ending(fields: &[u8]) -> String {
    format!(",\n  \"crc32c\": \"{:08x}\"\n}}\n", crc32c::crc32c(fields))
}

/// A content with named fields, at least one, as the bytes of its file.
fn encode<T: Serialize>(content: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(content).expect("ids, numbers and texts always serialise");
    assert!(text.ends_with(b"\n}"), "a content has named fields, and at least one");
    text.truncate(text.len() - b"\n}".len());
    let ending = ending(&text);
    text.extend_from_slice(ending.as_bytes());
    text
}

/// The content of a file's bytes.
fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, CheckedFileError> {
    let damaged = |problem: String| CheckedFileError::Damaged(problem);
    let fields_end = text.len().saturating_sub(ending(&[]).len());
    let (fields, found) = text.split_at(fields_end);
    let expected = ending(fields);
    if found != expected.as_bytes() {
        let expected: String = expected.split_whitespace().filter(|word| word.contains('"')).collect();
        return Err(damaged(format!("its last field should be {expected}, over what stands before it")));
    }
    serde_json::from_slice(text).map_err(|error| damaged(error.to_string()))
}

/// Replaces `directory/name` durably.
pub(crate) fn write<T: Serialize>(directory: &Path, name: &str, content: &T) -> io::Result<()> {
    let beside = directory.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(&encode(content))?;
    file.sync_all()?;
    std::fs::rename(&beside, directory.join(name))?;
    sync_directory(directory)
}

/// Reads `directory/name`; `None` if there is no such file.
pub(crate) fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, CheckedFileError> {
    match std::fs::read(directory.join(name)) {
        Ok(text) => decode(&text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Content = BTreeMap<String, u64>;

    fn content() -> Content {
        BTreeMap::from([("node".into(), 2), ("version".into(), 1)])
    }

    #[test]
    fn a_file_reads_back_as_written_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read::<serde_json::Value>(directory.path(), "file").unwrap().is_none());
        write(directory.path(), "file", &content()).unwrap();
        write(directory.path(), "file", &content()).unwrap();
        let found: serde_json::Value = read(directory.path(), "file").unwrap().unwrap();
        assert_eq!((found["node"].as_u64(), found["version"].as_u64()), (Some(2), Some(1)));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_changed_bit_is_found() {
        let text = encode(&content());
        for bit in 0..text.len() * 8 {
            let mut bent = text.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let refused = decode::<serde_json::Value>(&bent).unwrap_err();
            assert!(matches!(refused, CheckedFileError::Damaged(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_file_that_ends_early_or_goes_on_is_refused() {
        let text = encode(&content());
        for length in 0..text.len() {
            decode::<serde_json::Value>(&text[..length]).unwrap_err();
        }
        decode::<serde_json::Value>(&[&text[..], b"\n"].concat()).unwrap_err();
    }
}
