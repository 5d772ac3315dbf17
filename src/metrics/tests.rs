//! Claims about what `/metrics` shows.

use std::collections::BTreeSet;

use super::definitions::{DEFINITIONS, Kind};
use super::*;

fn exported_names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn every_defined_metric_is_there_before_anything_happened() {
    let text = render();
    let exported = exported_names(&text);
    for definition in DEFINITIONS {
        assert!(exported.contains(definition.name), "{} is missing", definition.name);
    }
}

#[test]
fn nothing_is_exported_that_is_not_defined() {
    let text = render();
    let defined: BTreeSet<&str> = DEFINITIONS.iter().map(|definition| definition.name).collect();
    let exported = exported_names(&text);
    assert_eq!(exported.difference(&defined).collect::<Vec<_>>(), Vec::<&&str>::new());
}

#[test]
fn names_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for definition in DEFINITIONS.iter().chain(PARTITION_SERIES) {
        let name = definition.name;
        assert!(name.starts_with("lockstep_"), "{name}");
        assert_eq!(name.ends_with("_total"), definition.kind == Kind::Counter, "{name}");
        assert!(!name.contains("milli") && !name.contains("micro") && !name.contains("_ms"), "{name}");
        assert!(definition.help.ends_with('.'), "{name} wants a sentence as help");
        assert!(seen.insert(name), "{name} is defined twice");
    }
}

#[test]
fn latency_buckets_double_from_256_microseconds() {
    produce_answered(Duration::from_micros(300), 1024, 3);
    let text = render();
    let bounds: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("lockstep_produce_duration_seconds_bucket{le=\"")?.split('"').next()
        })
        .collect();
    assert_eq!(bounds.len(), 19, "18 buckets and +Inf: {bounds:?}");
    assert_eq!(bounds[..3], ["0.000256", "0.000512", "0.001024"]);
    assert_eq!(bounds[18], "+Inf");
}

#[test]
fn write_amplification_is_frame_bytes_per_record_byte() {
    let group = GroupWritten { entries: 4, frame_bytes: 1200, record_bytes: 1000, syncs: 1 };
    group_written(group, Duration::from_millis(1));
    let text = render();
    let ratio: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("lockstep_log_write_amplification_ratio ")?.parse().ok())
        .expect("the ratio is exported");
    assert!((ratio - 1.2).abs() < 1e-9, "{ratio}");
}

#[test]
fn a_topic_name_cannot_break_out_of_its_label() {
    let sample = PartitionSample {
        topic: "a\"} 1\nfake 2".to_owned(),
        partition: 0,
        high_watermark: 7,
        log_start: 1,
        log_bytes: 100,
        is_leader: true,
        lag_entries: 0,
    };
    let text = render_partitions(&[sample]);
    assert!(
        text.contains(r#"lockstep_partition_high_watermark{topic="a\"} 1\nfake 2",partition="0"} 7"#),
        "{text}"
    );
    assert!(text.lines().all(|line| !line.starts_with("fake")), "{text}");
}
