//! A local cluster of real broker processes, as `lockstep up` starts it, on ports that were free a moment ago.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of the harness")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep");
/// Far above what anything here takes: it only keeps a broken test from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three brokers and the `up` that watches them. Dropping it stops all of them.
pub struct LocalCluster {
    up: Child,
    directory: tempfile::TempDir,
    port_base: u16,
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
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port_base = free_port_base();
        let up = up(directory.path(), port_base);
        Self { up, directory, port_base }
    }

    /// Stops `up` as Ctrl-C does, and starts it again on the same data.
    pub fn restart(&mut self) {
        self.stop();
        self.up = up(self.directory.path(), self.port_base);
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
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

    /// Waits until `up` runs a node under another process id, and it is ready.
    pub fn wait_for_restart(&self, killed: &Node) {
        self.wait_until(&format!("node {} runs again", killed.id), || {
            let node = self.node(killed.id);
            node.pid != killed.pid && node.pid != 0 && http_status(&node.http, "/readyz") == Some(200)
        });
    }

    /// Waits for something that is bound to happen.
    pub fn wait_until(&self, what: &str, mut happened: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !happened() {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::yield_now();
        }
    }

    /// Stops everything, as Ctrl-C does.
    pub fn stop(&mut self) {
        signal(self.up.id() as i32, rustix::process::Signal::INT);
        let _ = self.up.wait();
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            for id in 1..=3 {
                let log = fs::read_to_string(self.node_directory(id).join("log.txt")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(20).collect();
                eprintln!("---- node {id}, newest line first ----\n{}", tail.join("\n"));
            }
        }
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
    use std::io::Write;
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

fn up(directory: &Path, port_base: u16) -> Child {
    let mut up = Command::new(LOCKSTEP)
        .args(["up", "--data"])
        .arg(directory)
        .args(["--port-base", &port_base.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("lockstep runs");
    let mut lines = BufReader::new(up.stdout.take().expect("stdout is piped")).lines();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.to_lowercase().contains("ready"));
    assert!(ready, "up ended before the cluster was ready");
    // Somebody has to read on, or up would block on a full pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    up
}

/// A base whose thirty ports are free at the moment. Outside of the range that outgoing connections take theirs from.
fn free_port_base() -> u16 {
    let start = (std::process::id() as u16 % 500) * 40;
    let bases = (0..500u16).map(|step| 10_000 + (start + step * 40) % 20_000);
    let free = |base: &u16| {
        (0..30).all(|offset| offset % 10 > 2 || TcpListener::bind(("127.0.0.1", base + offset)).is_ok())
    };
    bases.into_iter().find(free).expect("some thirty ports are free")
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
