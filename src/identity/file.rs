//! Small JSON files that are replaced as a whole.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::IdentityError;

/// Replaces `directory/name` durably: after a crash it holds the old content or the new, never a mixture.
pub(super) fn write<T: Serialize>(directory: &Path, name: &str, content: &T) -> Result<(), IdentityError> {
    let path = directory.join(name);
    let beside = directory.join(format!("{name}.new"));
    let mut text = serde_json::to_vec_pretty(content).expect("ids and numbers always serialise");
    text.push(b'\n');
    let replace = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        sync_directory(directory)
    };
    replace().map_err(|source| IdentityError::from_io(&path, source))
}

/// Reads `directory/name`; `None` if there is no such file.
pub(super) fn read<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, IdentityError> {
    let path = directory.join(name);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IdentityError::from_io(&path, source)),
    };
    match serde_json::from_slice(&text) {
        Ok(content) => Ok(Some(content)),
        Err(error) => Err(IdentityError::Damaged { path, problem: error.to_string() }),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}
