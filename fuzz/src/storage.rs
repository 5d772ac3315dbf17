//! Targets that read files: whatever stands in a data directory, recovery says what it is.

mod crafted;
mod damaged;
mod directory;
mod history;
mod repaired;
mod vote;

/// The model that the storage layer's own tests check a log against.
#[path = "../../storage/tests/common/mod.rs"]
mod common;

use super::Target;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "crafted_directory", input_bytes_max: 2048, run: crafted::directory },
    Target { name: "damaged_log", input_bytes_max: 512, run: damaged::log },
    Target { name: "repaired_log", input_bytes_max: 512, run: repaired::log },
    Target { name: "vote_file", input_bytes_max: 512, run: vote::file },
    Target { name: "log_history", input_bytes_max: 1024, run: history::run },
];
