//! Fetching and building what is compared, once, into a cache.

mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::PeersError;
use crate::process::output_of;
use crate::system::System;

/// The newest release of the NATS server that was tried.
const NATS_SERVER: &str = "github.com/nats-io/nats-server/v2@v2.15.2";

/// The broker's own start script; the one in the path changes the user.
pub(crate) const RABBITMQ_SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// A system that can be started.
pub(crate) struct Program {
    pub(crate) system: System,
    pub(crate) tool: Tool,
    /// Of the broker and of its client.
    pub(crate) versions: String,
}

/// What can be measured, and what cannot.
pub(crate) struct Installed {
    pub(crate) programs: Vec<Program>,
    /// System, and why not.
    pub(crate) skipped: Vec<(&'static str, String)>,
}

/// How long a download or a build may take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Where its parts are.
pub(crate) enum Tool {
    Lockstep { program: PathBuf },
    Kafka(Kafka),
    Nats { server: PathBuf, load: PathBuf },
    Rabbitmq { class_path: String },
}

/// What a program of Kafka's is started with.
pub(crate) struct Kafka {
    /// Jars and our load class.
    pub(crate) class_path: String,
    pub(crate) log_settings: PathBuf,
}

impl Kafka {
    /// Java with options, before the class that is to run.
    pub(crate) fn java(&self, options: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(options).args(["-cp", &self.class_path]);
        command.arg(format!("-Dlog4j2.configurationFile={}", self.log_settings.display()));
        command
    }
}

/// Installs what is asked for. What cannot be had is skipped, aloud.
pub(crate) fn all(
    systems: &[System],
    cache: &Path,
    lockstep: Option<&Path>,
) -> Result<Installed, PeersError> {
    fs::create_dir_all(cache).map_err(PeersError::io(cache))?;
    let cache = fs::canonicalize(cache).map_err(PeersError::io(cache))?;
    eprintln!("downloads and builds go to {}", cache.display());
    let (mut programs, mut skipped) = (Vec::new(), Vec::new());
    for system in systems {
        let tool = match system {
            System::Lockstep => self::lockstep(lockstep),
            System::Kafka | System::KafkaSynced => kafka(&cache.join("kafka")),
            System::Nats | System::NatsSynced => nats(&cache.join("nats")),
            System::Rabbitmq => rabbitmq(&cache.join("rabbitmq")),
        };
        match tool {
            Ok(tool) => programs.push(Program { system: *system, versions: versions::of(&tool), tool }),
            Err(PeersError::Interrupted) => return Err(PeersError::Interrupted),
            Err(error) => {
                eprintln!("SKIPPED {}: {error}", system.name());
                skipped.push((system.name(), error.to_string()));
            }
        }
    }
    if programs.is_empty() {
        return Err(PeersError::Missing("nothing is left to be measured".to_owned()));
    }
    Ok(Installed { programs, skipped })
}

fn lockstep(program: Option<&Path>) -> Result<Tool, PeersError> {
    let program = match program {
        Some(program) => program.to_owned(),
        None => {
            let own = std::env::current_exe().map_err(PeersError::io(Path::new("this program")))?;
            own.with_file_name("lockstep")
        }
    };
    if program.is_file() {
        return Ok(Tool::Lockstep { program });
    }
    let program = program.display();
    Err(PeersError::Missing(format!(
        "{program} is not there: cargo build --release, or name it by --lockstep"
    )))
}

/// Our sources of the peers' load generators.
fn sources(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

fn kafka(cache: &Path) -> Result<Tool, PeersError> {
    let class_path = java_load(cache, "kafka/pom.xml", "KafkaLoad")?;
    Ok(Tool::Kafka(Kafka { class_path, log_settings: sources("kafka/log4j2.properties") }))
}

/// Fetches what a pom names, and compiles a load on it; returns the class path of all that.
fn java_load(cache: &Path, pom: &str, class: &str) -> Result<String, PeersError> {
    let pom = sources(pom);
    let (libraries, classes) = (cache.join("libs"), cache.join("classes"));
    fs::create_dir_all(&classes).map_err(PeersError::io(&classes))?;
    once(cache, &fs::read_to_string(&pom).map_err(PeersError::io(&pom))?, || {
        eprintln!("fetching what {} names by Maven", pom.display());
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies");
        maven.arg(format!("-DoutputDirectory={}", libraries.display())).arg("-DincludeScope=runtime");
        output_of(&mut maven, PATIENCE).map(drop)
    })?;
    let jars = format!("{}/*", libraries.display());
    let mut compiler = Command::new("javac");
    compiler.args(["-nowarn", "--release", "17", "-cp", &jars, "-d"]).arg(&classes);
    compiler.arg("-sourcepath").arg(sources("java"));
    output_of(compiler.arg(sources("java/lockstep/peers").join(format!("{class}.java"))), PATIENCE)?;
    Ok(format!("{}:{jars}", classes.display()))
}

/// The broker is Debian's: it needs Erlang, which its packages bring along.
fn rabbitmq(cache: &Path) -> Result<Tool, PeersError> {
    if !Path::new(RABBITMQ_SERVER).is_file() {
        let what = format!(
            "{RABBITMQ_SERVER} is not there: apt-get install rabbitmq-server, and stop the service that it starts"
        );
        return Err(PeersError::Missing(what));
    }
    Ok(Tool::Rabbitmq { class_path: java_load(cache, "rabbitmq/pom.xml", "RabbitLoad")? })
}

fn nats(cache: &Path) -> Result<Tool, PeersError> {
    fs::create_dir_all(cache).map_err(PeersError::io(cache))?;
    once(cache, NATS_SERVER, || {
        eprintln!("building the NATS server from its Go module");
        output_of(Command::new("go").args(["install", NATS_SERVER]).env("GOBIN", cache), PATIENCE).map(drop)
    })?;
    let load = cache.join("nats-load");
    let mut build = Command::new("go");
    output_of(build.current_dir(sources("nats")).args(["build", "-o"]).arg(&load).arg("."), PATIENCE)?;
    Ok(Tool::Nats { server: cache.join("nats-server"), load })
}

/// Does something unless it was done before for the same version.
fn once(
    cache: &Path,
    version: &str,
    install: impl FnOnce() -> Result<(), PeersError>,
) -> Result<(), PeersError> {
    let mark = cache.join("installed-version");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == version) {
        return Ok(());
    }
    install()?;
    fs::write(&mark, version).map_err(PeersError::io(&mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_is_installed_once_for_each_version() {
        let cache = tempfile::tempdir().unwrap();
        let mut times = 0;
        for version in ["1", "1", "2"] {
            once(cache.path(), version, || {
                times += 1;
                Ok(())
            })
            .unwrap();
        }
        assert_eq!(times, 2);
        let failed = once(cache.path(), "3", || Err(PeersError::Missing("planted".into())));
        assert!(failed.is_err());
        once(cache.path(), "3", || {
            times += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(times, 3, "a failed installation is tried again");
    }
}
