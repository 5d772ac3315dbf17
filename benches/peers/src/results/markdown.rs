//! Tables in Markdown, as `docs/performance.md` has them.

use std::fmt::Write;
use std::time::Duration;

use lockstep_load::report::{bytes, thousands, time};

use super::figures::{Measured, Spread, SystemResults};
use super::{CaseResults, OURS, Results};
use crate::case::ON_ONE_PARTITION;

pub(super) fn of(results: &Results) -> String {
    let mut text = format!("Machine: {}.\n", results.machine);
    list(&mut text, "VIOLATION", &results.violations);
    limits(&mut text, results);
    for case in &results.cases {
        self::case(&mut text, results, case);
    }
    list(&mut text, "How it was measured", &results.run);
    list(&mut text, "Settings", &results.settings);
    list(&mut text, "Skipped", &results.skipped);
    list(&mut text, "Failed", &results.failed);
    text
}

/// Under a heading, unless there is nothing to list.
fn list(text: &mut String, heading: &str, entries: &[(String, String)]) {
    if !entries.is_empty() {
        let _ = write!(text, "\n### {heading}\n\n");
    }
    for (what, said) in entries {
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let _ = writeln!(text, "- **{what}**: {}", said.join(" / "));
    }
}

fn limits(text: &mut String, results: &Results) {
    let shown = |limit: f64| match limit {
        limit if limit.is_finite() => format!("{}/s", bytes(limit)),
        _ => "not measured".to_owned(),
    };
    let rate = |name: &str| shown(results.limit(name));
    let _ = write!(
        text,
        "\n### Limits of the machine\n\n| limit | measured |\n|---|---|\n\
         | sequential write, synced at the end | {} |\n| sequential read | {} |\n| loopback, one way | {} |\n\
         | CRC-32C, one thread | {} |\n| memcpy, one thread | {} |\n\
         | disk, write: the most of all that was written | {} |\n",
        rate("sequential_write_bytes_per_second"),
        rate("sequential_read_bytes_per_second"),
        rate("loopback_bytes_per_second"),
        rate("crc32c_bytes_per_second"),
        rate("memcpy_bytes_per_second"),
        shown(results.write_limit()),
    );
    let Some(syncs) = results.limits["syncs"].as_array() else { return };
    text.push_str(
        "\n| write and sync | files | syncs/s | bytes/s | p50 | p99 |\n|---|---|---|---|---|---|\n",
    );
    for sync in syncs {
        let number = |name: &str| sync[name].as_f64().unwrap_or(0.0);
        let latency = |name: &str| time(Duration::from_secs_f64(number(name) / 1e6));
        let _ = writeln!(
            text,
            "| {:.0} KiB | {} | {} | {}/s | {} | {} |",
            number("group_bytes") / 1024.0,
            number("files"),
            thousands(number("syncs_per_second")),
            bytes(number("bytes_per_second")),
            latency("p50_us"),
            latency("p99_us"),
        );
    }
}

fn case(text: &mut String, results: &Results, case: &CaseResults) {
    let _ = write!(
        text,
        "\n### {}\n\n{}.\n\n\
         | system | rounds | records/s (min–max) | bytes/s | p50 | p99 | p99.9 | p99.99 | CPU s/GB | memory | {} |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n",
        case.name,
        case.what,
        if case.is_about_throughput { "ours, times its records/s" } else { "its p50, p99, times ours" },
    );
    for system in &case.systems {
        row(text, case, system);
    }
    let shares: Vec<String> =
        results.shares(case).iter().map(|(limit, share)| format!("{limit} {:.0} %", share * 100.0)).collect();
    if !shares.is_empty() {
        let _ = writeln!(text, "\nOurs, as a share of the machine's limits: {}.", shares.join(", "));
    }
    if case.is_fan_out {
        deliveries(text, case);
    } else if !case.is_about_throughput || case.is_single() {
        sync_ratio(text, results, case);
    }
    against_one_partition(text, results, case);
}

/// What the same does on one partition.
fn against_one_partition(text: &mut String, results: &Results, case: &CaseResults) {
    let Some((_, one)) = ON_ONE_PARTITION.iter().find(|(many, _)| *many == case.name) else { return };
    let Some(one) = results.case(one) else { return };
    let ratio = |system: &SystemResults| {
        let ratio = system.by(one.system(&system.name)?, |round| Some(round.records_per_second));
        Some(format!("{} {}", system.name, shown(Some(ratio?))))
    };
    let ratios: Vec<String> = case.systems.iter().filter_map(ratio).collect();
    if !ratios.is_empty() {
        let _ = writeln!(
            text,
            "\nRecords/s as a multiple of those of `{}`, which has {} connection(s) instead of {}: {}.",
            one.name,
            one.connections,
            case.connections,
            ratios.join(", ")
        );
    }
}

/// What the brokers' processors deliver.
fn deliveries(text: &mut String, case: &CaseResults) {
    let for_each_cpu_second =
        |round: &Measured| Some(1e9 / f64::from(case.record_bytes) / round.broker_seconds_per_gigabyte?);
    for system in &case.systems {
        let Some(delivered) = system.spread(for_each_cpu_second) else { continue };
        let against = case.ours().filter(|_| system.name != OURS);
        let against = against.map(|ours| shown(system.ours_against(ours, for_each_cpu_second, false)));
        let against = against.map_or(String::new(), |ratio| format!(", ours {ratio} times that"));
        let _ = writeln!(
            text,
            "\nRecords that {} delivers for each second of its brokers' processors: {} ({}–{}){against}.",
            system.name,
            thousands(delivered.median),
            thousands(delivered.low),
            thousands(delivered.high),
        );
    }
}

/// Our median against a bare sync's.
fn sync_ratio(text: &mut String, results: &Results, case: &CaseResults) {
    let p50 = case.ours().and_then(|ours| ours.spread(|round| Some(round.latency(50.0)? * 1e6)));
    if let Some((p50, sync)) = p50.zip(results.sync_p50_us(f64::from(case.record_bytes))) {
        let _ = writeln!(
            text,
            "\nOur p50 is {:.1} × the p50 of a bare sync with three files side by side.",
            p50.median / sync
        );
    }
}

fn row(text: &mut String, case: &CaseResults, system: &SystemResults) {
    let figure = |figure: &dyn Fn(&Measured) -> Option<f64>, show: &dyn Fn(Spread) -> String| {
        system.spread(figure).map_or_else(|| "–".to_owned(), show)
    };
    let rate = figure(&|round| Some(round.records_per_second), &|rate| {
        format!("{} ({}–{})", thousands(rate.median), thousands(rate.low), thousands(rate.high))
    });
    let percentiles = [50.0, 99.0, 99.9, 99.99].map(|percent| {
        figure(&|round| round.latency(percent), &|spread| time(Duration::from_secs_f64(spread.median)))
    });
    let _ = writeln!(
        text,
        "| {} | {} | {rate}{} | {} | {} | {} | {} | {} |",
        system.name,
        rounds(system),
        off_the_rate(case, system),
        figure(&|round| Some(round.bytes_per_second), &|rate| format!("{}/s", bytes(rate.median))),
        percentiles.join(" | "),
        figure(&|round| round.broker_seconds_per_gigabyte, &|cpu| format!("{:.2}", cpu.median)),
        figure(&|round| Some(round.peak_resident_bytes), &|memory| bytes(memory.median)),
        ratio(case, system),
    );
}

/// How many came to an end, of how many. Files of an earlier version do not tell the latter.
fn rounds(system: &SystemResults) -> String {
    match system.attempts {
        0 => format!("{}/?", system.rounds.len()),
        attempts => format!("{}/{attempts}", system.rounds.len()),
    }
}

/// Latencies at another rate than was asked for are those of another load.
fn off_the_rate(case: &CaseResults, system: &SystemResults) -> String {
    match case.asked_rate.map(|asked| (asked, system.rounds_off(asked))) {
        Some((asked, off @ 1..)) => {
            format!(", MISSED {} by more than 1 % in {off}", thousands(asked))
        }
        _ => String::new(),
    }
}

fn ratio(case: &CaseResults, system: &SystemResults) -> String {
    let Some(ours) = case.ours().filter(|_| system.name != OURS) else { return "–".to_owned() };
    let against = |figure: &dyn Fn(&Measured) -> Option<f64>, less_is_better| {
        shown(system.ours_against(ours, figure, less_is_better))
    };
    if case.is_about_throughput {
        return against(&|round| Some(round.records_per_second), false);
    }
    let latency = |percent| against(&move |round| round.latency(percent), true);
    format!("{}, {}", latency(50.0), latency(99.0))
}

fn shown(ratio: Option<Spread>) -> String {
    ratio
        .map_or("–".to_owned(), |ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high))
}
