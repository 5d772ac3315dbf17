//! Real text through a real cluster, with its leader killed in the middle.

mod processes;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use processes::{LocalCluster, Node, succeeded};

const INPUT_BYTES: usize = 200 << 20;

#[test]
fn two_hundred_megabytes_of_text_survive_the_leaders_death_byte_for_byte() {
    let input = real_text();
    let cluster = LocalCluster::start();
    cluster.run(&["topic", "create", "sources"]);
    let started = Instant::now();

    let arguments = ["produce", "sources", "--json"];
    let mut produce = cluster
        .lockstep(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("lockstep runs");
    let mut stdin = produce.stdin.take().expect("stdin is piped");
    let (first_half, second_half) = input.split_at(input.len() / 2);
    stdin.write_all(first_half).expect("produce reads on");
    let killed = cluster.leader("sources");
    cluster.kill(&killed);
    stdin.write_all(second_half).expect("produce reads on while the leader is dead");
    drop(stdin);
    succeeded(&arguments, &produce.wait_with_output().expect("produce ends"));
    println!(
        "produced {} bytes in {:.1?}, node {} killed half-way",
        input.len(),
        started.elapsed(),
        killed.id
    );

    cluster.wait_for_restart(&killed);
    for node in cluster.nodes() {
        let started = Instant::now();
        let records = read_back(&cluster, &node, &input);
        println!(
            "node {}: LSNs 1..{records} without a gap, byte for byte the same, {:.1?}",
            node.id,
            started.elapsed()
        );
    }
}

/// Reads the topic from one broker, holding every LSN and every line to the input; returns how many records there are.
fn read_back(cluster: &LocalCluster, node: &Node, input: &[u8]) -> u64 {
    let id = node.id.to_string();
    let arguments =
        ["consume", "sources", "--from", "earliest", "--until-end", "--node", &id, "--format", "%l\\t%v\\n"];
    let mut consume: Command = cluster.lockstep(&arguments);
    let mut consume = consume.stdout(Stdio::piped()).spawn().expect("lockstep runs");
    let mut read = BufReader::with_capacity(1 << 20, consume.stdout.take().expect("stdout is piped"));
    let mut lines = input.split_inclusive(|byte| *byte == b'\n');
    let (mut lsn, mut line) = (0, Vec::new());
    while read.read_until(b'\n', &mut line).expect("stdout can be read") > 0 {
        lsn += 1;
        let expected = lines.next().expect("no record beyond the input");
        let tab = line.iter().position(|byte| *byte == b'\t').expect("an LSN and a tab");
        assert_eq!(&line[..tab], lsn.to_string().as_bytes(), "the LSNs of node {id} are dense");
        assert_eq!(&line[tab + 1..], expected, "LSN {lsn} on node {id}");
        line.clear();
    }
    assert!(lines.next().is_none(), "node {id} ends at LSN {lsn}, and the input goes on");
    let status = consume.wait().expect("consume ends");
    assert!(status.success(), "lockstep {arguments:?} failed: {status}");
    lsn
}

/// Source files of this project's dependencies, as often as it takes.
fn real_text() -> Vec<u8> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).expect("a home directory");
    let mut files = Vec::new();
    collect(&home.join("registry").join("src"), &mut files);
    assert!(!files.is_empty(), "cargo keeps the dependencies' sources in {}", home.display());
    files.sort();
    let mut text = Vec::with_capacity(INPUT_BYTES + (1 << 20));
    for file in files.iter().cycle() {
        fs::File::open(file).and_then(|mut file| file.read_to_end(&mut text)).expect("a readable file");
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        if text.len() >= INPUT_BYTES {
            return text;
        }
    }
    unreachable!("the files are cycled through until there is enough")
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
