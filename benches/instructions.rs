//! Instructions of a record's way through a broker, counted by Valgrind's callgrind, and held against the committed
//! baselines. They do not depend on what else the machine does; compilers and processors move them by a few percent.
//!
//! ```text
//! cargo bench --profile dev --bench instructions               counts, and shows what changed
//! cargo bench --profile dev --bench instructions -- --check    fails if something changed by more than the margin
//! cargo bench --profile dev --bench instructions -- --write    writes the baselines anew
//! ```
//!
//! The baselines are of the profile that the tests are built with, so that the guard costs no build of its own.

#![allow(dead_code, reason = "the ways are shared with tests/costs.rs, which counts more")]

#[path = "../tests/costs/baselines.rs"]
mod baselines;
#[path = "../tests/cluster/mod.rs"]
mod cluster;
#[path = "../tests/costs/paths.rs"]
mod paths;

use std::process::{Command, ExitCode, Stdio};

use baselines::{Baselines, Figure};
use lockstep_storage::{GroupOutcome, WriteGroup};
use paths::Path;

const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/costs/instructions.json");
/// Other processors take other ways through the same library.
const MARGIN: f64 = 0.05;
/// Turns that are counted.
const TURNS: u64 = 20;
/// Set in the process that is counted: the way it shall go.
const COUNTED: &str = "LOCKSTEP_COUNTED_PATH";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(COUNTED) {
        go(&name);
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("valgrind is not installed: install it (apt-get install valgrind), and try again");
        return ExitCode::from(2);
    }
    let figures: Vec<Figure> = Path::all().iter().map(|path| counted(path.name, path.batches)).collect();
    for Figure { path, value, .. } in &figures {
        println!("{value:>12.0}  instructions per batch: {path}");
    }
    if std::env::args().any(|argument| argument == "--write") {
        Baselines::of(&figures).write(BASELINES);
        return ExitCode::SUCCESS;
    }
    let changes = Baselines::read(BASELINES).changes(&figures, MARGIN);
    changes.iter().for_each(|change| println!("changed: {change}"));
    let fails = !changes.is_empty() && std::env::args().any(|argument| argument == "--check");
    if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Goes one way, in the process that is counted.
fn go(name: &str) {
    let path = Path::all().into_iter().find(|path| path.name == name);
    let mut path = path.unwrap_or_else(|| panic!("{name:?} is none of the ways"));
    path.write_with(simulated_write);
    (0..TURNS).for_each(|_| path.go());
}

/// What the simulated disk does is not counted: callgrind is told to pause here.
#[inline(never)]
fn simulated_write(group: WriteGroup) -> GroupOutcome {
    group.run()
}

/// Runs this program again under callgrind, which counts inside of [`Path::go`] but for [`simulated_write`].
fn counted(name: &str, batches: u64) -> Figure {
    let program = std::env::current_exe().expect("this program has a file");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--toggle-collect=*paths::Path::go*", "--toggle-collect=*simulated_write*"])
        .arg(program)
        .env(COUNTED, name)
        .output()
        .expect("valgrind runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected =
        said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<u64>().ok());
    let collected = collected.unwrap_or_else(|| panic!("callgrind says what it collected: {said}"));
    assert!(collected > 0, "callgrind found the way that is counted");
    Figure {
        path: name.into(),
        what: "instructions per batch",
        value: collected as f64 / (TURNS * batches) as f64,
    }
}
