//! Tables in Markdown, as `docs/performance.md` has them.

use std::fmt::Write;
use std::time::Duration;

use lockstep_load::report::{bytes, thousands, time};

use super::{CaseResults, Measured, OURS, Results, Spread, SystemResults};

pub(super) fn of(results: &Results) -> String {
    let mut text = format!("Machine: {}.\n", results.machine);
    limits(&mut text, results);
    for case in &results.cases {
        self::case(&mut text, results, case);
    }
    text.push_str("\n### Settings\n\n");
    for (system, settings) in &results.settings {
        let _ = writeln!(text, "- **{system}**: {settings}");
    }
    if !results.skipped.is_empty() {
        text.push_str("\n### Skipped\n\n");
        for (what, why) in &results.skipped {
            let _ = writeln!(text, "- **{what}**: {why}");
        }
    }
    text
}

fn limits(text: &mut String, results: &Results) {
    let rate = |name: &str| match results.limit(name) {
        limit if limit.is_finite() => format!("{}/s", bytes(limit)),
        _ => "not measured".to_owned(),
    };
    let _ = write!(
        text,
        "\n### Limits of the machine\n\n| limit | measured |\n|---|---|\n\
         | sequential write, synced at the end | {} |\n| sequential read | {} |\n| loopback, one way | {} |\n\
         | CRC-32C, one thread | {} |\n| memcpy, one thread | {} |\n",
        rate("sequential_write_bytes_per_second"),
        rate("sequential_read_bytes_per_second"),
        rate("loopback_bytes_per_second"),
        rate("crc32c_bytes_per_second"),
        rate("memcpy_bytes_per_second"),
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
         | system | records/s (min–max) | bytes/s | p50 | p99 | p99.9 | p99.99 | CPU s/GB | memory | {} |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
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
    } else if !case.is_about_throughput {
        sync_ratio(text, results, case);
    }
}

/// What the brokers' processors deliver.
fn deliveries(text: &mut String, case: &CaseResults) {
    let for_each_cpu_second =
        |round: &Measured| 1e9 / f64::from(case.record_bytes) / round.cpu_seconds_per_gigabyte;
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
    let p50 = case.ours().and_then(|ours| ours.spread(|round| round.percentile(50.0).as_secs_f64() * 1e6));
    if let Some((p50, sync)) = p50.zip(results.sync_p50_us(f64::from(case.record_bytes))) {
        let _ = writeln!(
            text,
            "Our p50 is {:.1} × the p50 of a bare sync with three files side by side.",
            p50.median / sync
        );
    }
}

fn row(text: &mut String, case: &CaseResults, system: &SystemResults) {
    let (Some(rate), Some(bytes_per_second), Some(cpu), Some(memory)) = (
        system.spread(|round| round.records_per_second),
        system.spread(|round| round.bytes_per_second),
        system.spread(|round| round.cpu_seconds_per_gigabyte),
        system.spread(|round| round.peak_resident_bytes),
    ) else {
        return;
    };
    let percentiles = [50.0, 99.0, 99.9, 99.99].map(|percent| {
        let spread = system.spread(|round| round.percentile(percent).as_secs_f64());
        spread.map_or("–".to_owned(), |spread| time(Duration::from_secs_f64(spread.median)))
    });
    let _ = writeln!(
        text,
        "| {} | {} ({}–{}) | {}/s | {} | {:.2} | {} | {} |",
        system.name,
        thousands(rate.median),
        thousands(rate.low),
        thousands(rate.high),
        bytes(bytes_per_second.median),
        percentiles.join(" | "),
        cpu.median,
        bytes(memory.median),
        ratio(case, system),
    );
}

fn ratio(case: &CaseResults, system: &SystemResults) -> String {
    let Some(ours) = case.ours().filter(|_| system.name != OURS) else { return "–".to_owned() };
    let against = |figure: &dyn Fn(&Measured) -> f64, less_is_better| {
        shown(system.ours_against(ours, figure, less_is_better))
    };
    if case.is_about_throughput {
        return against(&|round| round.records_per_second, false);
    }
    let latency = |percent| against(&move |round| round.percentile(percent).as_secs_f64(), true);
    format!("{}, {}", latency(50.0), latency(99.0))
}

fn shown(ratio: Option<Spread>) -> String {
    ratio
        .map_or("–".to_owned(), |ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high))
}
