//! Keeps the brokers of a local cluster running until it is told to stop.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::cluster_file::NodeState;
use super::directory::ClusterDirectory;
use super::node::LocalNode;
use super::ready;
use crate::cli::exit::CliError;
use crate::cli::output::Output;

/// Before a died broker is started again, at first.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
/// Before a died broker is started again, at most.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// A broker that ran this long gets the short delay again.
const LONG_LIFE: Duration = Duration::from_secs(30);
/// Time for a broker to stop by itself.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// Deaths before the cluster was ever ready after which `up` gives up.
const EARLY_DEATHS_MAX: u32 = 3;
/// Lines of a broker's log that are shown when it will not start.
const LOG_LINES_SHOWN: usize = 5;
/// What would point a broker elsewhere than its settings file does.
const VARIABLES_REMOVED: [&str; 8] = [
    "LOCKSTEP_CONFIG",
    "LOCKSTEP_DATA",
    "LOCKSTEP_NODE",
    "LOCKSTEP_CLUSTER",
    "LOCKSTEP_JOIN",
    "LOCKSTEP_LISTEN_NATIVE",
    "LOCKSTEP_LISTEN_PEER",
    "LOCKSTEP_LISTEN_HTTP",
];

/// The brokers and what is known of each.
pub(crate) struct Supervisor<'a> {
    directory: ClusterDirectory,
    output: &'a mut Output,
    /// This very program, found before anybody replaces its file.
    program: PathBuf,
    brokers: Vec<Broker>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    /// Whether all brokers have been ready at once.
    was_ready: bool,
}

/// One broker's process.
#[derive(Default)]
struct Broker {
    /// Asks the process to stop when sent to; absent while there is none.
    pid: Option<u32>,
    started_at: Option<Instant>,
    deaths: u32,
    delay: Duration,
    watcher: Option<JoinHandle<()>>,
}

/// What happened to the broker at an index.
enum Event {
    Ready(usize),
    Died(usize, io::Result<ExitStatus>),
    StartAgain(usize),
}

impl<'a> Supervisor<'a> {
    /// # Errors
    /// The program's own file cannot be found.
    pub(crate) fn new(directory: ClusterDirectory, output: &'a mut Output) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let brokers = directory.nodes.iter().map(|_| Broker::default()).collect();
        let (sender, events) = mpsc::unbounded_channel();
        Ok(Self { directory, output, program, brokers, events, sender, was_ready: false })
    }

    /// Starts all brokers and keeps them running until SIGINT or SIGTERM.
    pub(crate) async fn run(mut self) -> Result<(), CliError> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        self.say(&format!("data in {}", self.directory.path.display()));
        for index in 0..self.brokers.len() {
            self.start(index)?;
        }
        let result = loop {
            tokio::select! {
                _ = interrupt.recv() => break Ok(()),
                _ = terminate.recv() => break Ok(()),
                event = self.events.recv() => {
                    let Some(event) = event else { break Ok(()) };
                    if let Err(error) = self.handle(event) {
                        break Err(error);
                    }
                }
            }
        };
        self.stop().await?;
        result
    }

    fn handle(&mut self, event: Event) -> Result<(), CliError> {
        match event {
            Event::Ready(index) => self.became_ready(index),
            Event::Died(index, status) => self.died(index, status),
            Event::StartAgain(index) => {
                self.directory.file.nodes[index].restarts += 1;
                self.start(index)
            }
        }
    }

    /// Starts a broker, unless its data is gone.
    fn start(&mut self, index: usize) -> Result<(), CliError> {
        let node = self.directory.nodes[index].clone();
        if !node.data().join("identity.json").exists() {
            let data = node.data();
            self.say(&format!(
                "node {} stays down: its data in {} is gone, and a copy that lost its data must not vote as if it had \
                 none. Put the directory back, and start `lockstep up` again",
                node.id,
                data.display()
            ));
            return self.set_state(index, NodeState::Down);
        }
        let child = spawn(&self.program, &node).map_err(|error| {
            CliError::Failed(format!(
                "cannot start node {}: {error}. Its log is {}",
                node.id,
                node.log_file().display()
            ))
        })?;
        let broker = &mut self.brokers[index];
        broker.pid = child.id();
        broker.started_at = Some(Instant::now());
        broker.watcher = Some(tokio::spawn(watch(index, child, node.http, self.sender.clone())));
        self.directory.file.nodes[index].pid = broker.pid;
        self.set_state(index, NodeState::Starting)
    }

    fn became_ready(&mut self, index: usize) -> Result<(), CliError> {
        self.set_state(index, NodeState::Ready)?;
        let node = &self.directory.nodes[index];
        if self.was_ready {
            let text = format!("node {} is ready again", node.id);
            self.say(&text);
        }
        let all = &self.directory.file.nodes;
        let settled = all.iter().all(|node| matches!(node.state, NodeState::Ready | NodeState::Down));
        if settled && !self.was_ready {
            self.was_ready = true;
            self.announce()?;
        }
        Ok(())
    }

    fn died(&mut self, index: usize, status: io::Result<ExitStatus>) -> Result<(), CliError> {
        let broker = &mut self.brokers[index];
        broker.pid = None;
        broker.deaths += 1;
        let lived = broker.started_at.take().map_or(Duration::ZERO, |started| started.elapsed());
        let doubled = if lived >= LONG_LIFE { RESTART_DELAY_MIN } else { broker.delay * 2 };
        broker.delay = doubled.clamp(RESTART_DELAY_MIN, RESTART_DELAY_MAX);
        let (delay, deaths) = (broker.delay, broker.deaths);
        let node = &self.directory.nodes[index];
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        if !self.was_ready && deaths >= EARLY_DEATHS_MAX {
            return Err(CliError::Failed(format!(
                "node {} does not start ({how}). Its log, {}, ends:\n{}",
                node.id,
                node.log_file().display(),
                last_lines(node)
            )));
        }
        let text = format!(
            "node {} died ({how}); starting it again in {} ms. Its log: {}",
            node.id,
            delay.as_millis(),
            node.log_file().display()
        );
        self.say(&text);
        self.directory.file.nodes[index].pid = None;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            // Nobody listens any more: the cluster is being stopped.
            let _ = sender.send(Event::StartAgain(index));
        });
        self.set_state(index, NodeState::Restarting)
    }

    /// Tells that the cluster is ready, and what to type next.
    fn announce(&mut self) -> Result<(), CliError> {
        let file = &self.directory.file;
        let typed: Vec<String> = std::env::args().collect();
        let command = typed.first().map_or("lockstep", String::as_str);
        let brokers: Vec<&str> = file.nodes.iter().map(|node| node.native.as_str()).collect();
        let at_default = brokers.first() == Some(&"127.0.0.1:7400");
        let brokers_flag =
            if at_default { String::new() } else { format!(" --brokers {}", brokers.join(",")) };
        let json = json!({ "event": "ready", "cluster": file.cluster.to_string(), "nodes": file.nodes });
        let text = || {
            let nodes: String = file
                .nodes
                .iter()
                .zip(&self.directory.nodes)
                .map(|(entry, node)| {
                    let log = node.log_file();
                    let state = if entry.state == NodeState::Down { "  DOWN" } else { "" };
                    let (id, native, http) = (entry.id, &entry.native, &entry.http);
                    format!("  node {id}  clients {native}  http {http}  log {}{state}\n", log.display())
                })
                .collect();
            let made = if self.directory.is_new { "new " } else { "" };
            format!(
                "{made}cluster {} is ready\n{nodes}\nNow type, in another terminal:\n  \
                 echo hello | {command} produce greetings{brokers_flag}\n  \
                 {command} consume greetings --from earliest{brokers_flag}\n\nCtrl-C stops it; `{}` brings it \
                 back with its data.",
                file.cluster,
                typed.join(" ")
            )
        };
        self.output.answer(&json, text)?;
        Ok(self.output.flush()?)
    }

    /// Stops all brokers and waits for them.
    async fn stop(&mut self) -> Result<(), CliError> {
        self.say("stopping");
        let running: Vec<u32> = self.brokers.iter().filter_map(|broker| broker.pid).collect();
        running.iter().for_each(|pid| send_signal(*pid, rustix::process::Signal::TERM));
        let watchers: Vec<_> = self.brokers.iter_mut().filter_map(|broker| broker.watcher.take()).collect();
        let all_stopped = async {
            for watcher in watchers {
                // A watcher ends with its process, however that ended.
                let _ = watcher.await;
            }
        };
        if tokio::time::timeout(STOP_TIME_MAX, all_stopped).await.is_err() {
            self.say(
                "some brokers did not stop in time and are killed; nothing acknowledged is lost by that",
            );
            // Dropping the watchers with the runtime kills what is left (kill_on_drop).
        }
        self.directory.file.pid = None;
        for node in &mut self.directory.file.nodes {
            node.pid = None;
            node.state = if node.state == NodeState::Down { NodeState::Down } else { NodeState::Stopped };
        }
        self.directory.file.write(&self.directory.path)?;
        self.say("stopped");
        Ok(())
    }

    fn set_state(&mut self, index: usize, state: NodeState) -> Result<(), CliError> {
        self.directory.file.nodes[index].state = state;
        Ok(self.directory.file.write(&self.directory.path)?)
    }

    /// News, on standard error.
    fn say(&self, text: &str) {
        if self.output.is_json() {
            eprintln!("{}", json!({ "event": "news", "text": text }));
        } else {
            eprintln!("lockstep up: {text}");
        }
    }
}

/// Starts a broker's process: its own process group, so that Ctrl-C reaches it through us alone.
fn spawn(program: &Path, node: &LocalNode) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).open(node.log_file())?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(node.config_file()).arg("--exit-with-stdin");
    for variable in VARIABLES_REMOVED {
        command.env_remove(variable);
    }
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Reports when the broker becomes ready, and when it ends.
async fn watch(index: usize, mut child: Child, http: String, events: mpsc::UnboundedSender<Event>) {
    // Waiting would close it, and with that the broker would take us for dead.
    let _stdin = child.stdin.take();
    let status = tokio::select! {
        status = child.wait() => status,
        () = ready::until_ready(&http) => {
            // Nobody listens any more: the cluster is being stopped.
            let _ = events.send(Event::Ready(index));
            child.wait().await
        }
    };
    let _ = events.send(Event::Died(index, status));
}

fn send_signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // A process that has ended meanwhile needs no signal.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The end of a broker's log.
fn last_lines(node: &LocalNode) -> String {
    let log = std::fs::read(node.log_file()).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].iter().map(|line| format!("  {line}\n")).collect()
}
