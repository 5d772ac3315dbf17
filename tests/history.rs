//! A workload recorded against real brokers whose leader is killed half-way, and checked; then the same history bent.

mod processes;

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
};

use processes::{LocalCluster, succeeded};
use serde_json::Value;

/// Bytes of history after which the leader is killed.
const HALF_WAY_BYTES: u64 = 400_000;

#[test]
fn a_recorded_history_is_kept_through_the_leaders_death_and_a_bent_one_is_caught() {
    let cluster = LocalCluster::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("proof.jsonl");
    let file = path.to_str().expect("text");
    cluster.run(&["topic", "create", "proof"]);

    let arguments =
        ["history", "record", "--topic", "proof", "--duration", "5", "--rate", "600", "--output", file];
    let record = cluster
        .lockstep(&arguments)
        .args(["--check", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lockstep runs");
    cluster.wait_until("half of the history is recorded", || {
        fs::metadata(&path).is_ok_and(|file| file.len() > HALF_WAY_BYTES)
    });
    let killed = cluster.leader("proof");
    cluster.kill(&killed);
    let output = record.wait_with_output().expect("record ends");
    let verdict = verdict(&output);
    println!("{verdict:#}");
    succeeded(&arguments, &output);

    assert_eq!(verdict["passed"], true);
    for (figure, least) in [
        ("acknowledged", 1_000),
        ("clients", 8),
        ("conditional", 10),
        ("failed", 1),
        ("reads", 100),
        ("tails_confirmed", 10),
        ("watermarks_compared", 100),
        // The leader's end, seen from outside.
        ("restarts", 2),
        ("replicas", 3),
    ] {
        let count = verdict["checked"][figure].as_u64();
        assert!(count >= Some(least), "{figure}: only {count:?} were checked");
    }

    let lines: Vec<Value> = read_lines(&path);
    bend_and_expect(&cluster, &path, &lines, "acknowledged-in-place", |lines| tell_another_lsn(lines));
    bend_and_expect(&cluster, &path, &lines, "nothing-invented", forget_an_append);
    bend_and_expect(&cluster, &path, &lines, "read-matches-log", |lines| show_another_record(lines));

    let whole = fs::read_to_string(&path).expect("the history is text");
    let (cut, _) = whole.trim_end().rsplit_once('\n').expect("more than one line");
    fs::write(&path, cut).expect("the file can be written");
    let output = cluster.lockstep(&["history", "check", file]).output().expect("lockstep runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("its recorder did not finish"), "{complaint}");
}

/// Bends the history in one place, and expects the check to name the rule that this breaks.
fn bend_and_expect(
    cluster: &LocalCluster,
    path: &Path,
    lines: &[Value],
    rule: &str,
    bend: fn(&mut Vec<Value>),
) {
    let mut bent = lines.to_vec();
    bend(&mut bent);
    assert_ne!(bent, lines, "{rule}: nothing was bent");
    let text: String = bent.iter().map(|line| format!("{line}\n")).collect();
    fs::write(path, text).expect("the file can be written");
    let file = path.to_str().expect("text");
    let output = cluster.lockstep(&["history", "check", file, "--json"]).output().expect("lockstep runs");
    let verdict = verdict(&output);
    println!("{rule}: {}", verdict["violations_by_rule"]);
    assert_eq!(output.status.code(), Some(1), "{rule}: {verdict:#}");
    assert!(verdict["violations_by_rule"][rule].as_u64() > Some(0), "{rule}: {verdict:#}");
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        .expect("the file can be written");
}

fn tell_another_lsn(lines: &mut [Value]) {
    let acknowledged = lines.iter_mut().find_map(|line| line.pointer_mut("/append/outcome/acknowledged"));
    let acknowledged = acknowledged.expect("something was acknowledged");
    for lsn in ["first_lsn", "last_lsn"] {
        acknowledged[lsn] = (acknowledged[lsn].as_u64().expect("an LSN") + 1).into();
    }
}

fn forget_an_append(lines: &mut Vec<Value>) {
    let stored = |line: &Value| line.pointer("/append/outcome/acknowledged").is_some();
    let place = lines.iter().position(stored).expect("something was acknowledged");
    lines.remove(place);
    let end = lines.last_mut().expect("the end");
    end["end"]["operations"] = (end["end"]["operations"].as_u64().expect("a count") - 1).into();
}

fn show_another_record(lines: &mut [Value]) {
    let shown = lines.iter_mut().find_map(|line| line.pointer_mut("/read/records/0"));
    let run = shown.expect("something was read");
    run[2] = (run[2].as_u64().expect("a batch's number") + 1).into();
}

fn read_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the history is text");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn verdict(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("no verdict ({error}): {stderr}"))
}
