//! Which versions are compared, from where each is pinned.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{NATS_SERVER, PATIENCE, Tool, sources};
use crate::process::output_of;

/// What stands in for a version that cannot be told.
const UNKNOWN: &str = "of unknown version";
/// Debian's broker is in a directory that is called by its version.
const RABBITMQ_LIBRARIES: &str = "/usr/lib/rabbitmq/lib";

/// Of the broker and of its client.
pub(super) fn of(tool: &Tool) -> String {
    match tool {
        Tool::Lockstep { program } => printed_by(Command::new(program).arg("--version")),
        Tool::Kafka(_) => {
            let version = pinned("kafka/pom.xml", "<kafka.version>", "<");
            format!("Kafka and kafka-clients {version} on {}", java())
        }
        Tool::Nats { .. } => {
            let server = NATS_SERVER.rsplit_once("@v").map_or(UNKNOWN, |(_, version)| version);
            let client = pinned("nats/go.mod", "github.com/nats-io/nats.go v", "\n");
            format!(
                "nats-server {server}, nats.go {client}, {}",
                printed_by(Command::new("go").arg("version"))
            )
        }
        Tool::Rabbitmq { .. } => {
            let client =
                pinned("rabbitmq/pom.xml", "<artifactId>stream-client</artifactId>\n      <version>", "<");
            let server = in_name(Path::new(RABBITMQ_LIBRARIES), "rabbitmq_server-");
            format!("RabbitMQ {server}, stream-client {client} on {}", java())
        }
    }
}

fn java() -> String {
    printed_by(Command::new("java").arg("--version"))
}

/// The first line of what a command prints.
fn printed_by(command: &mut Command) -> String {
    let printed = output_of(command, PATIENCE).unwrap_or_default();
    printed.lines().next().unwrap_or(UNKNOWN).trim().to_owned()
}

/// What stands in one of our files between two texts.
fn pinned(file: &str, before: &str, after: &str) -> String {
    let text = fs::read_to_string(sources(file)).unwrap_or_default();
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_once(after));
    found.map_or(UNKNOWN, |(version, _)| version.trim()).to_owned()
}

/// The end of the name of what begins so.
fn in_name(directory: &Path, before: &str) -> String {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let found = names.filter_map(|name| name.strip_prefix(before).map(str::to_owned)).max();
    found.unwrap_or_else(|| UNKNOWN.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_is_found() {
        for (file, before, after) in [
            ("kafka/pom.xml", "<kafka.version>", "<"),
            ("nats/go.mod", "github.com/nats-io/nats.go v", "\n"),
            ("rabbitmq/pom.xml", "<artifactId>stream-client</artifactId>\n      <version>", "<"),
        ] {
            let version = pinned(file, before, after);
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{file}: {version}");
        }
        assert_eq!(pinned("kafka/pom.xml", "<planted.version>", "<"), UNKNOWN);
    }

    #[test]
    fn the_version_in_a_directory_s_name_is_found() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("server-3.10.8")).unwrap();
        assert_eq!(in_name(directory.path(), "server-"), "3.10.8");
        assert_eq!(in_name(directory.path(), "planted-"), UNKNOWN);
    }
}
