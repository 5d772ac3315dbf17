//! Planted results, and what is shown of them.

use serde_json::json;

use super::figures::Spread;
use super::*;
use crate::case::{self, Times};
use crate::sampling::Samples;

const TIMES: Times = Times { duration: 10.0, warm_up: 1.0, client_warm_up: 1.0 };

fn measured(round: u32, rate: f64, latency_us: u64) -> Measured {
    Measured {
        round,
        records_per_second: rate,
        bytes_per_second: rate * 1_000.0,
        histogram_us: vec![(latency_us, 1_000)],
        broker_seconds_per_gigabyte: Some(2.0),
        load_seconds_per_gigabyte: Some(1.0),
        peak_resident_bytes: 1e6,
    }
}

fn results() -> Results {
    let limits = json!({
        "sequential_write_bytes_per_second": 3e8,
        "loopback_bytes_per_second": 3e9,
        "crc32c_bytes_per_second": 2e10,
        "syncs": [{ "files": 3, "group_bytes": 4096, "p50_us": 400 }],
    });
    let mut results = Results::new(limits, "a machine".to_owned());
    for case in case::all(1_000, TIMES) {
        let rounds = [(1, 3_000.0, 1_000.0), (2, 2_000.0, 1_000.0), (4, 40_000.0, 10_000.0)];
        for (round, ours, theirs) in rounds {
            results.add(&case, OURS, measured(round, ours, 500));
            results.add(&case, "kafka", measured(round, theirs, 1_000));
        }
        // A round that only one of them came to the end of is in no ratio.
        results.add(&case, OURS, measured(3, 1e9, 500));
    }
    results.skipped("rabbitmq", "not here");
    results
}

#[test]
fn ratios_are_taken_round_by_round() {
    let results = results();
    let case = &results.cases[0];
    let ratio = case.systems[1]
        .ours_against(case.ours().unwrap(), |round| Some(round.records_per_second), false)
        .unwrap();
    assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 3.0, 4.0));
    let p99 = |round: &Measured| round.latency(99.0);
    let ratio = case.systems[1].ours_against(case.ours().unwrap(), p99, true).unwrap();
    assert!((ratio.median - 2.0).abs() < 0.01);
}

#[test]
fn a_median_of_an_even_number_lies_between_the_two_in_the_middle() {
    assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 10.0]).unwrap().median, 3.0);
    assert_eq!(Spread::of(vec![]), None);
}

#[test]
fn results_are_read_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("results.json");
    let results = results();
    results.write(&path).unwrap();
    assert_eq!(Results::read(&path).unwrap(), results);
}

#[test]
fn whatever_was_measured_or_skipped_is_shown() {
    let results = results();
    for shown in [results.markdown(), results.html()] {
        for case in &results.cases {
            assert!(shown.contains(&case.name), "{} is missing", case.name);
        }
        assert!(shown.contains("rabbitmq") && shown.contains("not here"));
        assert!(!shown.contains("NaN"));
    }
}

fn answered(case: &Case, answer: &Value) -> Option<Measured> {
    Measured::from_answer(case, 1, answer, &Samples::default(), 1e6)
}

#[test]
fn an_answer_without_the_series_of_its_case_is_none() {
    let case = &case::all(1_000, TIMES)[0];
    let figures = json!({ "records": 10, "bytes": 1000, "seconds": 2.0, "histogram_us": [[5, 10]] });
    let found = answered(case, &json!({ "acknowledged": figures })).unwrap();
    assert_eq!(found.records_per_second, 5.0);
    assert_eq!(found.broker_seconds_per_gigabyte, None, "it did not tell when it measured");
    assert_eq!(answered(case, &json!({ "read": figures })), None);
}

#[test]
fn a_round_in_which_nothing_was_delivered_is_none() {
    let case = &case::all(1_000, TIMES)[0];
    let of = |records: u64, histogram: Value| {
        let bytes = records * 100;
        json!({ "acknowledged":
            { "records": records, "bytes": bytes, "seconds": 2.0, "histogram_us": histogram } })
    };
    assert!(answered(case, &of(10, json!([[5, 10]]))).is_some());
    assert_eq!(answered(case, &of(0, json!([[5, 10]]))), None);
    assert_eq!(answered(case, &of(10, json!([]))), None);
}

#[test]
fn a_percentile_with_too_few_samples_above_it_is_none() {
    let with = |samples| Measured { histogram_us: vec![(5, samples)], ..measured(1, 1.0, 5) };
    for (percent, enough) in [(50.0, 20), (99.0, 1_000), (99.9, 10_000), (99.99, 100_000)] {
        assert!(with(enough).percentile(percent).is_some(), "{percent}");
        assert_eq!(with(enough - 1).percentile(percent), None, "{percent}");
    }
}

#[test]
fn a_missed_rate_is_marked() {
    let mut results = Results::new(json!({}), String::new());
    let case = case::all(1_000, TIMES).into_iter().find(|case| case.name == "latency").unwrap();
    results.add(&case, OURS, measured(1, 1_009.0, 5));
    assert!(!results.markdown().contains("MISSED"));
    results.add(&case, OURS, measured(2, 1_011.0, 5));
    results.add(&case, OURS, measured(3, 989.0, 5));
    assert!(results.markdown().contains("MISSED 1,000 by more than 1 % in 2"), "{}", results.markdown());
}

#[test]
fn an_infinite_ratio_is_shown() {
    let of = |rate| SystemResults { name: String::new(), attempts: 2, rounds: vec![measured(1, rate, 5)] };
    let rate = |round: &Measured| Some(round.records_per_second);
    assert_eq!(of(0.0).ours_against(&of(1.0), rate, false).unwrap().high, f64::INFINITY);
    assert_eq!(of(0.0).ours_against(&of(0.0), rate, false), None, "nothing by nothing is no ratio");
}

#[test]
fn a_round_that_failed_is_counted_and_its_reason_shown() {
    let mut results = Results::new(json!({}), String::new());
    let case = &case::all(1_000, TIMES)[0];
    results.add(case, OURS, measured(1, 1.0, 5));
    let error = PeersError::Command { command: "a broker".into(), said: "planted".into() };
    results.add_failure(case, OURS, 2, &error);
    results.add_failure(case, "kafka", 1, &error);
    for shown in [results.markdown(), results.html()] {
        assert!(shown.contains("1/2") && shown.contains("0/1"), "{shown}");
        assert!(shown.contains("lockstep, throughput, round 2"), "{shown}");
        assert!(shown.contains("planted") && !shown.contains("VIOLATION"), "{shown}");
    }
    assert!(!results.has_violations());
}

#[test]
fn a_violation_has_a_heading_of_its_own() {
    let mut results = Results::new(json!({}), String::new());
    results.add_failure(
        &case::all(1_000, TIMES)[0],
        OURS,
        2,
        &PeersError::Violation("a record was lost".into()),
    );
    assert!(results.has_violations());
    assert!(
        results
            .markdown()
            .contains("### VIOLATION\n\n- **lockstep, throughput, round 2**: a record was lost")
    );
}

#[test]
fn many_partitions_are_compared_with_one() {
    let shown = results().markdown();
    assert!(shown.contains("Records/s as a multiple of those of `throughput`"), "{shown}");
    assert!(shown.contains("Records/s as a multiple of those of `throughput-small`"), "{shown}");
    assert!(shown.contains("lockstep 1.00 (1.00–1.00), kafka 1.00 (1.00–1.00)"), "{shown}");
}

#[test]
fn single_records_are_compared_with_a_bare_sync() {
    let results = results();
    let mut shown = String::new();
    let single = results.case("single-1").unwrap();
    markdown::of(&results).split("### ").filter(|part| part.starts_with("single-1\n")).for_each(|part| {
        shown.push_str(part);
    });
    assert!(single.is_single() && shown.contains("Our p50 is 1.2"), "{shown}");
}

#[test]
fn the_disk_writes_as_fast_as_it_ever_did() {
    let mut results = results();
    assert_eq!(results.write_limit(), 3e8);
    results.limits["syncs"][0]["bytes_per_second"] = json!(4e8);
    assert_eq!(results.write_limit(), 4e8);
}

#[test]
fn the_load_s_processor_time_counts_on_the_cores_of_the_machine_that_was_measured() {
    let mut results = Results::new(json!({}), String::new());
    results.cores = Some(4.0);
    results.add(&case::all(1_000, TIMES)[0], OURS, measured(1, 1e6, 5));
    let shares = results.shares(&results.cases[0]);
    // A gigabyte a second: two seconds of the brokers and one of the load, on four cores.
    assert_eq!(shares, [("processor, brokers and load", 0.75), ("processor, brokers alone", 0.5)]);
}
