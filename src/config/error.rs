//! Why a configuration was refused.

use std::path::PathBuf;

/// A configuration that cannot be used. Each message names the setting and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {path}: {source}; check the path given with --config")]
    Unreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not TOML, or names a setting that does not exist, or gives one the wrong type.
    #[error("{origin}: {message}")]
    Malformed {
        /// The file, or `configuration` if several sources were merged.
        origin: String,
        /// What the parser said, with the line.
        message: String,
    },
    /// An environment variable holds a value of the wrong type.
    #[error("the environment variable {name} is {value:?}; it must be {expected}")]
    Variable {
        /// The variable's name.
        name: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A setting is out of range or contradicts another.
    #[error("{setting}: {problem}; {fix}")]
    Invalid {
        /// The setting's path in the file, such as `limits.max_batch_bytes`.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        fix: String,
    },
}
