//! All rounds of all cases against all systems.

use std::path::Path;
use std::time::Duration;

use lockstep_load::limits;

use crate::Arguments;
use crate::case::{self, Case, Times};
use crate::cluster::Cluster;
use crate::error::PeersError;
use crate::install::{self, Program};
use crate::process::Scratch;
use crate::results::Results;
use crate::system::System;
use crate::{interrupt, machine};

/// The part of our peak at which latencies are compared.
const SHARE_OF_PEAK: f64 = 0.2;
/// A rate is rounded to so many records a second.
const RATE_STEP: f64 = 100.0;
/// What the command line shows where the rate is not known yet.
const UNKNOWN_RATE: u32 = 1;

/// Measures everything that was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<Results, PeersError> {
    interrupt::watch()?;
    // Whoever asks for what there is not is told at once.
    chosen_cases(arguments, arguments.rate)?;
    let directory = Scratch::new(&arguments.dir)?;
    let systems = chosen_systems(arguments);
    let installed = install::all(&systems, &arguments.cache, arguments.lockstep.as_deref())?;
    let mut results = Results::new(limits_of_the_machine(directory.path())?, machine::description());
    for (system, why) in &installed.skipped {
        results.skipped(system, why);
    }
    tell_how(arguments, &mut results);
    let rate = rate(arguments, &installed.programs, directory.path(), &mut results)?;
    let cases = chosen_cases(arguments, rate)?;
    for program in &installed.programs {
        results.settings(program.system.name(), &program.settings(&cases));
    }
    rounds(arguments, &cases, &installed.programs, directory.path(), &mut results)?;
    Ok(results)
}

fn rounds(
    arguments: &Arguments,
    cases: &[Case],
    programs: &[Program],
    directory: &Path,
    results: &mut Results,
) -> Result<(), PeersError> {
    for round in 1..=arguments.rounds {
        // Whoever comes first in one round comes last in another.
        let first = (round as usize - 1) % programs.len().max(1);
        for program in programs.iter().cycle().skip(first).take(programs.len()) {
            let mut turn = Turn { settle: arguments.settle, program, directory, round, cluster: None };
            turn.run(cases, results)?;
            // Kept as it comes: hours of figures are not to be lost to the last minute.
            if let Some(path) = &arguments.json {
                results.write(path)?;
            }
        }
    }
    Ok(())
}

/// One round of one system.
struct Turn<'a> {
    settle: f64,
    program: &'a Program,
    directory: &'a Path,
    round: u32,
    /// None before the first case, and after one that failed: what that left is not the next one's.
    cluster: Option<Cluster<'a>>,
}

impl Turn<'_> {
    fn run(&mut self, cases: &[Case], results: &mut Results) -> Result<(), PeersError> {
        let (system, round) = (self.program.system, self.round);
        let name = system.name();
        let (able, unable): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| system.can_run(case));
        for case in unable {
            results.skipped(&format!("{name}, {}", case.name), "there is no thin client for it");
        }
        for (at, case) in able.iter().enumerate() {
            if let Err(error) = self.start() {
                let error = only_failure(error)?;
                // It would not for the next case either, and each try takes long.
                eprintln!("FAILED: {error}");
                able[at..].iter().for_each(|case| results.add_failure(case, name, round, &error));
                return Ok(());
            }
            let Some(cluster) = &mut self.cluster else { continue };
            eprint!("round {round}: {name}, {} … ", case.name);
            match cluster.run(case, round) {
                Ok(measured) => {
                    eprintln!("{}", measured.brief());
                    results.add(case, name, measured);
                }
                Err(error) => {
                    let error = only_failure(error)?;
                    eprintln!("FAILED: {error}");
                    results.add_failure(case, name, round, &error);
                    self.cluster = None;
                }
            }
        }
        Ok(())
    }

    /// Unless it runs.
    fn start(&mut self) -> Result<(), PeersError> {
        if self.cluster.is_none() {
            eprintln!("round {}: starting {}", self.round, self.program.system.name());
            self.cluster = Some(started(self.program, self.directory, self.settle, self.round)?);
        }
        Ok(())
    }
}

/// What stands in the report, if that goes on: an interruption ends it, and is nobody's failure.
fn only_failure(error: PeersError) -> Result<PeersError, PeersError> {
    match error {
        PeersError::Interrupted => Err(error),
        failure => Ok(failure),
    }
}

/// A cluster that was kept busy for a while.
fn started<'a>(
    program: &'a Program,
    directory: &Path,
    settle: f64,
    round: u32,
) -> Result<Cluster<'a>, PeersError> {
    let mut cluster = Cluster::start(program, directory)?;
    if settle > 0.0 {
        cluster.run(&Case::to_settle(settle), round)?;
    }
    Ok(cluster)
}

/// Records a second of the cases at a share of our peak.
fn rate(
    arguments: &Arguments,
    programs: &[Program],
    directory: &Path,
    results: &mut Results,
) -> Result<Option<u32>, PeersError> {
    if let Some(rate) = arguments.rate {
        results.run("rate of latency and end-to-end", format!("{rate} records/s, as asked for"));
        return Ok(Some(rate));
    }
    if !chosen_cases(arguments, None)?.iter().any(Case::is_at_share_of_peak) {
        return Ok(None);
    }
    let ours = programs.iter().find(|program| program.system == System::Lockstep).ok_or_else(|| {
        PeersError::Usage("without lockstep there is no peak to take a share of: give a --rate".to_owned())
    })?;
    eprint!("our peak, for the rate of latency and end-to-end … ");
    let mut cluster = started(ours, directory, arguments.settle, 0)?;
    let peak = cluster.run(&Case::of_the_peak(times(arguments)), 0)?;
    drop(cluster);
    eprintln!("{}", peak.brief());
    let peak = peak.records_per_second();
    let rate = share_of(peak);
    let how = format!(
        "{rate} records/s for all systems and rounds: {:.0} % of the {peak:.0} that ours took before the first round",
        SHARE_OF_PEAK * 100.0
    );
    results.run("rate of latency and end-to-end", how);
    Ok(Some(rate))
}

fn share_of(peak: f64) -> u32 {
    ((peak * SHARE_OF_PEAK / RATE_STEP).round() * RATE_STEP).max(RATE_STEP) as u32
}

fn limits_of_the_machine(directory: &Path) -> Result<serde_json::Value, PeersError> {
    eprintln!("measuring the limits of this machine");
    let settings = limits::Settings {
        directory: directory.to_owned(),
        time: Duration::from_millis(500),
        write_bytes: 1 << 30,
    };
    let limits = limits::measure(&settings, |_| {})?;
    interrupt::check()?;
    Ok(limits.json())
}

/// What was asked for, for the report.
fn tell_how(arguments: &Arguments, results: &mut Results) {
    let Arguments { rounds, duration, warm_up, client_warm_up, settle, .. } = arguments;
    results.run(
        "rounds",
        format!(
            "{rounds}; within one, systems follow one another, minutes apart, beginning with another one each time: a ratio is \
             of figures of the same round, not of the same moment"
        ),
    );
    results.run(
        "times",
        format!(
            "{duration} s measured after {warm_up} s of warm-up; {client_warm_up} s more of it for clients on Java (Kafka, \
             RabbitMQ), as each case starts a new virtual machine; {settle} s of unmeasured throughput after each start of a \
             cluster; a cluster runs all cases of a round, and is started anew after a case that failed"
        ),
    );
    results.run(
        "processor time",
        "of all brokers, within the measured time alone, for the bytes of that time; sampled ten times a second".to_owned(),
    );
    results.run(
        "percentiles",
        "the median of the rounds with at least ten samples above it; without any such round there is none"
            .to_owned(),
    );
}

fn times(arguments: &Arguments) -> Times {
    Times {
        duration: arguments.duration,
        warm_up: arguments.warm_up,
        client_warm_up: arguments.client_warm_up,
    }
}

fn chosen_systems(arguments: &Arguments) -> Vec<System> {
    if arguments.systems.is_empty() { System::ALL.to_vec() } else { arguments.systems.clone() }
}

/// The cases that were asked for; without a rate those at a share of our peak have none that counts.
pub(crate) fn chosen_cases(arguments: &Arguments, rate: Option<u32>) -> Result<Vec<Case>, PeersError> {
    let all = case::all(rate.unwrap_or(UNKNOWN_RATE), times(arguments));
    if let Some(unknown) = arguments.cases.iter().find(|name| all.iter().all(|case| case.name != **name)) {
        let names: Vec<&str> = all.iter().map(|case| &*case.name).collect();
        return Err(PeersError::Usage(format!("no case {unknown:?}; there are {}", names.join(", "))));
    }
    let chosen = |case: &Case| arguments.cases.is_empty() || arguments.cases.contains(&case.name);
    Ok(all.into_iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interruption_ends_the_comparison_and_a_failure_does_not() {
        only_failure(PeersError::Missing("planted".into())).unwrap();
        only_failure(PeersError::Interrupted).unwrap_err();
    }

    #[test]
    fn a_rate_is_a_fifth_of_the_peak_in_whole_hundreds() {
        assert_eq!(share_of(100_240.0), 20_000);
        assert_eq!(share_of(100_260.0), 20_100);
        assert_eq!(share_of(12.0), 100, "none would be no load");
    }
}
