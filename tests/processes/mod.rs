//! A local cluster of real broker processes, as `lockstep up` starts it, on ports that were free a moment ago.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of the harness")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");
/// Far above what anything here takes: it only keeps a broken test from hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what is bound to happen.
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// Three brokers and the `up` that watches them. Dropping it stops all of them.
pub struct LocalCluster {
    up: Child,
    root: tempfile::TempDir,
    port_base: u16,
    surroundings: Surroundings,
}

/// What a cluster is started in.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Settings of the brokers, as environment variables.
    pub variables: Vec<(&'static str, String)>,
    /// Shell commands that mount something first; `$DIR` is the cluster's directory. They run in a mount namespace of
    /// the cluster's own, so that nothing stays mounted when it ends.
    pub mounts: Option<String>,
}

/// What `cluster.json` says of a node.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: u64,
    pub pid: i32,
    pub native: String,
    pub http: String,
}

impl LocalCluster {
    /// A new cluster of three; returns once `up` says that it is ready.
    pub fn start() -> Self {
        Self::start_in(Surroundings::default())
    }

    /// A new cluster of three in surroundings of its own.
    pub fn start_in(surroundings: Surroundings) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let port_base = free_port_base();
        let up = up(root.path(), port_base, &surroundings);
        Self { up, root, port_base, surroundings }
    }

    /// Stops `up` as Ctrl-C does, and starts it again on the same data.
    pub fn restart(&mut self) {
        self.stop();
        self.up = up(self.root.path(), self.port_base, &self.surroundings);
    }

    /// The same, in other surroundings from then on.
    pub fn restart_in(&mut self, surroundings: Surroundings) {
        self.stop();
        self.surroundings = surroundings;
        self.up = up(self.root.path(), self.port_base, &self.surroundings);
    }

    /// Another `up` on the same data and ports.
    pub fn another_up(&self) -> Command {
        up_command(self.root.path(), self.port_base, &self.surroundings)
    }

    /// The cluster's directory, as it is seen from where the cluster runs.
    pub fn directory(&self) -> PathBuf {
        let path = cluster_directory(self.root.path());
        match self.surroundings.mounts {
            None => path,
            Some(_) => {
                let inside = path.strip_prefix("/").expect("temporary directories have absolute paths");
                Path::new("/proc").join(self.up.id().to_string()).join("root").join(inside)
            }
        }
    }

    /// What `up` said on standard error, of all times it ran.
    pub fn news(&self) -> String {
        fs::read_to_string(news_file(self.root.path())).expect("up's standard error goes to a file")
    }

    /// The data directory of a node.
    pub fn node_directory(&self, id: u64) -> PathBuf {
        self.directory().join(format!("node-{id}"))
    }

    pub fn nodes(&self) -> Vec<Node> {
        let text = fs::read(self.directory().join("cluster.json")).expect("up keeps cluster.json");
        let cluster: Value = serde_json::from_slice(&text).expect("cluster.json is always whole");
        let nodes = cluster["nodes"].as_array().expect("cluster.json lists the nodes");
        let text = |value: &Value| value.as_str().expect("an address").to_owned();
        nodes
            .iter()
            .map(|node| Node {
                id: node["id"].as_u64().expect("an id"),
                pid: node["pid"].as_i64().unwrap_or(0) as i32,
                native: text(&node["native"]),
                http: text(&node["http"]),
            })
            .collect()
    }

    pub fn node(&self, id: u64) -> Node {
        self.nodes().into_iter().find(|node| node.id == id).expect("the node is in cluster.json")
    }

    pub fn brokers(&self) -> String {
        self.nodes().iter().map(|node| node.native.clone()).collect::<Vec<_>>().join(",")
    }

    /// The `lockstep` command, pointed at this cluster.
    pub fn lockstep(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(LOCKSTEP);
        command.args(arguments).env("LOCKSTEP_BROKERS", self.brokers());
        command
    }

    /// Runs it to its end; it must succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.lockstep(arguments).stdin(Stdio::null()).output().expect("lockstep runs");
        succeeded(arguments, &output);
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs it to its end with an input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.lockstep(arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("lockstep runs");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // One that refuses its arguments reads nothing.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("lockstep ends")
    }

    /// Who leads a partition, by its own account.
    pub fn leader(&self, topic: &str) -> Node {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.run(&["topic", "describe", topic, "--json"]);
            let described: Value = serde_json::from_str(&text).expect("JSON");
            if let Some(leader) = find_leader(&described) {
                return self.node(leader);
            }
            assert!(Instant::now() < deadline, "nobody leads {topic}: {text}");
        }
    }

    /// Kills a node's process the hard way. `up` starts it again.
    pub fn kill(&self, node: &Node) {
        signal(node.pid, rustix::process::Signal::KILL);
    }

    /// Asks a node's process to stop. `up` starts it again.
    pub fn terminate(&self, node: &Node) {
        signal(node.pid, rustix::process::Signal::TERM);
    }

    /// Kills `up` and all brokers the hard way, and waits until nothing of them is left.
    pub fn kill_everything(&mut self) {
        let nodes = self.nodes();
        // First, or it would start the others again.
        signal(self.up.id() as i32, rustix::process::Signal::KILL);
        nodes.iter().for_each(|node| signal(node.pid, rustix::process::Signal::KILL));
        let _ = self.up.wait();
        self.wait_until("the dead let go of their ports", || ports_are_free(self.port_base));
    }

    /// Waits until `up` runs a node under another process id, and it is ready.
    pub fn wait_for_restart(&self, killed: &Node) {
        self.wait_until(&format!("node {} runs again", killed.id), || {
            let node = self.node(killed.id);
            node.pid != killed.pid && node.pid != 0 && http_status(&node.http, "/readyz") == Some(200)
        });
    }

    /// Waits for something that is bound to happen.
    pub fn wait_until(&self, what: &str, happened: impl FnMut() -> bool) {
        wait_until(what, happened);
    }

    /// Stops everything, as Ctrl-C does.
    pub fn stop(&mut self) {
        signal(self.up.id() as i32, rustix::process::Signal::INT);
        let _ = self.up.wait();
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- up ----\n{}", self.news());
            for id in 1..=3 {
                let log = fs::read_to_string(self.node_directory(id).join("log.txt")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(20).collect();
                eprintln!("---- node {id}, newest line first ----\n{}", tail.join("\n"));
            }
        }
        self.stop();
    }
}

/// Looks again and again until it happened.
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(POLL_PAUSE);
    }
}

/// Asserts that a command ended well.
pub fn succeeded(arguments: &[&str], output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "lockstep {arguments:?} failed with {}: {stderr}", output.status);
}

/// The status of a GET, if the server answers.
pub fn http_status(address: &str, path: &str) -> Option<u16> {
    http_get(address, path).map(|(status, _)| status)
}

/// A GET's status and body.
pub fn http_get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn find_leader(described: &Value) -> Option<u64> {
    match described {
        Value::Object(fields) => {
            fields.get("leader").and_then(Value::as_u64).or_else(|| fields.values().find_map(find_leader))
        }
        Value::Array(items) => items.iter().find_map(find_leader),
        _ => None,
    }
}

/// The `lockstep` command, pointed at no cluster in particular.
pub fn lockstep(arguments: &[&str]) -> Command {
    let mut command = Command::new(LOCKSTEP);
    command.args(arguments).env_remove("LOCKSTEP_BROKERS");
    command
}

/// A command that runs a shell script in a mount namespace of its own; `None`, and said aloud, where this user may not
/// make one.
pub fn in_mount_namespace(script: &str) -> Option<Command> {
    let flags = if rustix::process::geteuid().is_root() { "--mount" } else { "--mount --map-root-user" };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(flags.split(' '));
        command
    };
    let allowed = unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !allowed {
        // Not eprintln: what a passing test prints that way is never seen.
        let skipped = format!("SKIPPED: this user cannot make mount namespaces (unshare {flags})\n");
        let _ = std::io::stderr().write_all(skipped.as_bytes());
        return None;
    }
    let mut command = unshare();
    command.args(["sh", "-e", "-c", script]);
    Some(command)
}

fn cluster_directory(root: &Path) -> PathBuf {
    root.join("cluster")
}

fn news_file(root: &Path) -> PathBuf {
    root.join("news.txt")
}

fn up_command(root: &Path, port_base: u16, surroundings: &Surroundings) -> Command {
    let mut command = match &surroundings.mounts {
        None => Command::new(LOCKSTEP),
        Some(mounts) => {
            let script = format!("mkdir -p \"$DIR\"\n{mounts}\nexec \"$LOCKSTEP\" \"$@\"");
            let mut command = in_mount_namespace(&script).expect("whoever mounts has asked before");
            command.arg("sh").env("DIR", cluster_directory(root)).env("LOCKSTEP", LOCKSTEP);
            command
        }
    };
    command.args(["up", "--data"]).arg(cluster_directory(root));
    command.args(["--port-base", &port_base.to_string()]);
    command.envs(surroundings.variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null());
    command
}

fn up(root: &Path, port_base: u16, surroundings: &Surroundings) -> Child {
    let news = fs::OpenOptions::new().create(true).append(true).open(news_file(root));
    let mut up = up_command(root, port_base, surroundings)
        .stdout(Stdio::piped())
        .stderr(news.expect("a file can be made"))
        .spawn()
        .expect("lockstep runs");
    let mut lines = BufReader::new(up.stdout.take().expect("stdout is piped")).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.to_lowercase().contains("ready"));
    let news = || fs::read_to_string(news_file(root)).unwrap_or_default();
    assert!(ready, "up ended before the cluster was ready: {}", news());
    // Somebody has to read on, or up would block on a full pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    up
}

/// A base whose thirty ports are free at the moment, and that no other test of this process was given. Outside of the
/// range that outgoing connections take theirs from.
pub fn free_port_base() -> u16 {
    static GIVEN_OUT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() as u16 % 500) * 40;
    loop {
        let step = GIVEN_OUT.fetch_add(1, Ordering::Relaxed);
        assert!(step < 500, "some thirty ports are free");
        let base = 10_000 + (start + step * 40) % 20_000;
        if ports_are_free(base) {
            return base;
        }
    }
}

fn ports_are_free(base: u16) -> bool {
    (0..30).all(|offset| offset % 10 > 2 || TcpListener::bind(("127.0.0.1", base + offset)).is_ok())
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
