//! Every planted bug is caught, and no release has one.

use std::process::Command;
use std::time::Duration;

use lockstep_planted::Bug;
use lockstep_simulator::planted::{Finding, Suite, table};

#[test]
fn every_planted_bug_is_caught_and_without_it_the_same_run_is_clean() {
    std::panic::set_hook(Box::new(|_| {}));
    let suite =
        Suite { bugs: Bug::ALL.to_vec(), seeds_max: 400, time_max: Duration::from_secs(180), threads: 2 };
    let findings = suite.run(&|_| ());
    let _ = std::panic::take_hook();
    println!("{}", table(&findings));
    assert!(findings.iter().all(Finding::is_good), "{}", table(&findings));
    assert!(findings.len() >= 40, "only {} bugs were tried", findings.len());
}

#[test]
fn no_build_but_that_of_tests_has_the_bugs_in_it() {
    let tree = |dependencies: &str| {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--workspace",
                "--edges",
                dependencies,
                "--invert",
                "lockstep-planted",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs: it runs this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let feature = "lockstep-planted feature \"planted\"";
    assert!(tree("features").contains(feature), "the tests have them");
    assert!(!tree("features,no-dev").contains(feature), "cargo build --workspace must not");
}
