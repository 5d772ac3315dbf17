//! The search for the runs that show each bug, and what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lockstep_planted::{self as planted, Bug};

use super::Scenario;
use super::plans::plan_for;
use crate::{Options, Plan, run_plan};

/// What is looked for, and how hard.
#[derive(Clone, Debug)]
pub struct Suite {
    /// Which bugs.
    pub bugs: Vec<Bug>,
    /// Seeds tried for each, from 0 on.
    pub seeds_max: u64,
    /// Time spent on each, at the most.
    pub time_max: Duration,
    /// Bugs looked for at the same time.
    pub threads: usize,
}

/// How a bug was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Catch {
    /// A run broke this rule.
    Run {
        /// The seed.
        seed: u64,
        /// The rule.
        rule: String,
        /// What was seen.
        message: String,
    },
    /// A scenario did not go as claimed.
    Scenario {
        /// What it claims.
        claim: &'static str,
        /// What was seen.
        message: String,
    },
}

/// What came of one bug.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The bug.
    pub bug: Bug,
    /// How it was caught, if it was.
    pub catch: Option<Catch>,
    /// Runs it took.
    pub runs: u64,
    /// How often its place was come by in them.
    pub reached: u64,
    /// How long it took.
    pub took: Duration,
    /// What is wrong with the catch itself, if anything: the same steps fail without the bug as well.
    pub false_alarm: Option<String>,
}

impl Finding {
    /// Whether the bug was caught, by coming to its place, and nothing was wrong without it.
    pub fn is_good(&self) -> bool {
        self.catch.is_some() && self.reached > 0 && self.false_alarm.is_none()
    }
}

impl Suite {
    /// Looks for each bug. What is found comes in the order of the bugs; `found` hears of each as it comes.
    pub fn run(&self, found: &(dyn Fn(&Finding) + Sync)) -> Vec<Finding> {
        let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while let Some(bug) = self.bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let finding = self.look_for(*bug);
                        found(&finding);
                        findings.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
                    }
                });
            }
        });
        let mut findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
        findings.sort_by_key(|finding| finding.bug);
        findings
    }

    fn look_for(&self, bug: Bug) -> Finding {
        let begun = Instant::now();
        let mut finding =
            Finding { bug, catch: None, runs: 0, reached: 0, took: Duration::ZERO, false_alarm: None };
        if let Some(scenario) = Scenario::of(bug) {
            finding.catch = finding.with_bug(|| scenario_catch(scenario));
            finding.false_alarm = scenario_catch(scenario).map(|catch| catch.message().to_owned());
        } else {
            for seed in 0..self.seeds_max {
                if finding.catch.is_some() || begun.elapsed() >= self.time_max {
                    break;
                }
                let plan = plan_for(Some(bug), seed);
                finding.catch = finding.with_bug(|| run_catch(plan.clone()));
                if finding.catch.is_some() {
                    finding.false_alarm = run_catch(plan).map(|catch| catch.message().to_owned());
                }
            }
        }
        finding.took = begun.elapsed();
        finding
    }
}

impl Finding {
    /// Does something with the bug active, and counts.
    fn with_bug(&mut self, run: impl FnOnce() -> Option<Catch>) -> Option<Catch> {
        planted::activate(Some(self.bug));
        let catch = run();
        self.runs += 1;
        self.reached += planted::reached();
        planted::activate(None);
        catch
    }
}

impl Catch {
    fn message(&self) -> &str {
        match self {
            Self::Run { message, .. } | Self::Scenario { message, .. } => message,
        }
    }

    /// The rule or the claim.
    fn rule(&self) -> &str {
        match self {
            Self::Run { rule, .. } => rule,
            Self::Scenario { claim, .. } => claim,
        }
    }

    /// How to see it again.
    fn replay(&self) -> String {
        match self {
            Self::Run { seed, .. } => format!("seed {seed}"),
            Self::Scenario { .. } => "scenario".to_owned(),
        }
    }
}

fn run_catch(plan: Plan) -> Option<Catch> {
    let seed = plan.seed;
    let caught = |rule: String, message| Some(Catch::Run { seed, rule, message });
    match catch_unwind(AssertUnwindSafe(|| run_plan(plan, &Options::default()))) {
        Ok(outcome) => {
            outcome.violation.and_then(|violation| caught(violation.rule.to_owned(), violation.message))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            caught("no-panic".to_owned(), text.to_owned())
        }
    }
}

fn scenario_catch(scenario: Scenario) -> Option<Catch> {
    let went =
        catch_unwind(AssertUnwindSafe(|| scenario.run())).unwrap_or_else(|_| Err("it panicked".to_owned()));
    went.err().map(|message| Catch::Scenario { claim: scenario.claim, message })
}

/// The findings for people: what caught each bug, and what is missing.
pub fn table(findings: &[Finding]) -> String {
    let mut table = format!(
        "{:<40}{:<32}{:>12}{:>8}{:>10}{:>9}\n",
        "bug", "caught by", "where", "runs", "reached", "seconds"
    );
    for finding in findings {
        let (rule, replay) = match &finding.catch {
            Some(catch) => (catch.rule(), catch.replay()),
            None if finding.reached == 0 => ("NOT REACHED", String::new()),
            None => ("NOT CAUGHT", String::new()),
        };
        let Finding { bug, runs, reached, took, .. } = finding;
        let seconds = took.as_secs_f64();
        table += &format!("{bug:<40}{rule:<32}{replay:>12}{runs:>8}{reached:>10}{seconds:>9.2}\n");
        if let Some(alarm) = &finding.false_alarm {
            table += &format!("  FALSE ALARM, the same happens without the bug: {alarm}\n");
        }
    }
    let good = findings.iter().filter(|finding| finding.is_good()).count();
    table + &format!("{good} of {} caught\n", findings.len())
}
