//! One broker: the real program, its settings, its process.

use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::command;
use crate::error::RigError;
use crate::http;

/// Ports of every broker; each has an address of its own.
const NATIVE: u16 = 7400;
const PEER: u16 = 7401;
const HTTP: u16 = 7402;
/// How many lines of a broker's log are shown when it ends by itself.
const LAST_LINES: usize = 8;

/// Where a broker is and what it is told.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its id.
    pub node: u64,
    /// Its own address.
    pub host: IpAddr,
    /// Its data directory.
    pub data: PathBuf,
    /// Where its settings and its log are written: not on the volume whose power is cut.
    pub outside: PathBuf,
    /// The network namespace it runs in.
    pub namespace: Option<String>,
}

impl Place {
    /// Where clients connect.
    #[must_use]
    pub fn native(&self) -> SocketAddr {
        SocketAddr::new(self.host, NATIVE)
    }

    /// Where its health and metrics are.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.host, HTTP)
    }

    fn settings_file(&self) -> PathBuf {
        self.outside.join(format!("node-{}.toml", self.node))
    }

    /// What the broker said.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.outside.join(format!("node-{}.log", self.node))
    }

    fn listens(&self) -> String {
        let address = |port| SocketAddr::new(self.host, port);
        format!(
            "native = \"{}\"\npeer = \"{}\"\nhttp = \"{}\"\n",
            address(NATIVE),
            address(PEER),
            address(HTTP)
        )
    }

    fn settings(&self, cluster: &str, all: &[Place], more: &str) -> String {
        let head = format!("node = {}\ndata = {:?}\ncluster = \"{cluster}\"\n", self.node, self.data);
        let mut text = format!("{head}\n{more}\n[listen]\n{}", self.listens());
        for place in all {
            text.push_str(&format!("\n[[nodes]]\nid = {}\n{}", place.node, place.listens()));
        }
        text
    }

    fn settings_to_join(&self, seeds: &[SocketAddr], more: &str) -> String {
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        format!("data = {:?}\njoin = {seeds:?}\n\n{more}\n[listen]\n{}", self.data, self.listens())
    }
}

/// A broker and, while it runs, its process. Dropping it kills the process.
#[derive(Debug)]
pub struct Broker {
    program: PathBuf,
    place: Place,
    process: Option<Child>,
    started: Instant,
}

impl Broker {
    /// Formats the data directory and writes the settings; `more` are further sections of TOML.
    ///
    /// # Errors
    /// The broker refuses the directory.
    pub fn format(
        program: &Path,
        place: Place,
        cluster: &str,
        all: &[Place],
        more: &str,
    ) -> Result<Self, RigError> {
        let mut format = Command::new(program);
        format.arg("format").arg("--data").arg(&place.data).args(["--cluster", cluster]);
        command::run(format.args(["--node", &place.node.to_string()]))?;
        let file = place.settings_file();
        fs::write(&file, place.settings(cluster, all, more)).map_err(RigError::file(&file))?;
        Ok(Self { program: program.to_owned(), place, process: None, started: Instant::now() })
    }

    /// Writes the settings of one that joins a cluster through any of `seeds`; `more` are further sections of TOML.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn joining(program: &Path, place: Place, seeds: &[SocketAddr], more: &str) -> Result<Self, RigError> {
        let file = place.settings_file();
        fs::write(&file, place.settings_to_join(seeds, more)).map_err(RigError::file(&file))?;
        Ok(Self { program: program.to_owned(), place, process: None, started: Instant::now() })
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// When it was started last.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Starts it; returns at once.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(&mut self) -> Result<(), RigError> {
        let log = self.open_log()?;
        let mut serve = match &self.place.namespace {
            None => Command::new(&self.program),
            Some(namespace) => {
                let mut inside = command::in_namespace(namespace);
                inside.arg(&self.program);
                inside
            }
        };
        // It ends with this process, and leaves Ctrl-C to it.
        serve.args(["serve", "--exit-with-stdin", "--config"]).arg(self.place.settings_file());
        serve.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut serve, 0);
        self.started = Instant::now();
        let failed = |error: std::io::Error| RigError::Command {
            command: self.program.display().to_string(),
            said: error.to_string(),
        };
        self.process = Some(serve.spawn().map_err(failed)?);
        Ok(())
    }

    /// SIGKILL, and waits until nothing of it is left.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// SIGTERM, and waits until it has stopped in its own way.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// Sends its process a signal, and whatever traces it.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // It may be dead already: that is noticed elsewhere.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.process.is_some()
            && http::get(self.place.http(), "/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Refuses a broker that ended though nobody ended it.
    ///
    /// # Errors
    /// [`RigError::BrokerEnded`] with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), RigError> {
        let ended = self.process.as_mut().and_then(|process| process.try_wait().ok().flatten());
        match ended {
            None => Ok(()),
            Some(status) => {
                self.process = None;
                let said = format!("{status}\n{}", self.last_lines());
                Err(RigError::BrokerEnded { node: self.place.node, said })
            }
        }
    }

    /// What its directory says of replicas that take no part, with the reason.
    #[must_use]
    pub fn faulty_replicas(&self) -> Vec<String> {
        let shards = fs::read_dir(self.place.data.join("shards")).into_iter().flatten();
        let marks = shards.filter_map(|entry| Some(entry.ok()?.path()));
        let marks = marks.filter(|path| path.extension().is_some_and(|extension| extension == "faulty"));
        let said = |path: PathBuf| {
            let why = fs::read_to_string(&path).unwrap_or_default();
            format!("{}: {why}", path.display())
        };
        marks.map(said).collect()
    }

    /// The end of its log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let log = fs::read_to_string(self.place.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }

    fn open_log(&self) -> Result<File, RigError> {
        let path = self.place.log_file();
        OpenOptions::new().create(true).append(true).open(&path).map_err(RigError::file(&path))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // A stopped process must be able to die.
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(node: u64) -> Place {
        let host = format!("127.0.0.{node}").parse().unwrap();
        let outside = PathBuf::from("outside");
        Place { node, host, data: PathBuf::from(format!("node-{node}/data")), outside, namespace: None }
    }

    #[test]
    fn settings_name_all_members_and_keep_further_sections() {
        let all = [place(1), place(2)];
        let text = all[1].settings("ab", &all, "[raft]\ntick_ms = 10\n");
        assert!(text.starts_with("node = 2\ndata = \"node-2/data\"\ncluster = \"ab\"\n"), "{text}");
        assert!(text.contains("[raft]\ntick_ms = 10\n\n[listen]\nnative = \"127.0.0.2:7400\"\n"), "{text}");
        assert_eq!(text.matches("[[nodes]]").count(), 2);
    }

    #[test]
    fn who_joins_is_told_whom_to_ask_and_not_who_it_is() {
        let text = place(4).settings_to_join(&[place(1).native()], "[raft]\ntick_ms = 10\n");
        let head =
            "data = \"node-4/data\"\njoin = [\"127.0.0.1:7400\"]\n\n[raft]\ntick_ms = 10\n\n[listen]\n";
        assert!(text.starts_with(head), "{text}");
        assert!(!text.contains("[[nodes]]") && !text.contains("node ="), "{text}");
    }
}
