//! For each rule, an otherwise good history with exactly one fault, and exactly that rule is found broken.
#![allow(clippy::unwrap_used)]

mod model;

use lockstep_checker::{
    Append, AppendOutcome, FinalState, Operation, Read, RecordId, Restart, Rule, Trim, check,
};
use model::{Log, Model, Stands};

/// Times go up to 300; faults are planted behind. The log, on three nodes:
///
/// ```text
/// LSN 1–2    client 1's batch 1   acknowledged, read
/// LSN 3–5    client 2's batch 1   acknowledged twice, the second time as a duplicate; read
/// LSN 6      client 1's batch 2   acknowledged, read
/// LSN 7–8    client 2's batch 2   unknown, read
/// LSN 9–10   client 1's batch 3   conditional, acknowledged
///            client 2's batch 3   certainly failed
/// LSN 11     client 1's batch 4   acknowledged, seen by nobody else
/// ```
fn good() -> Model {
    let mut model = Model::default();
    for node in 1..=3 {
        model.logs.push(Log { node, log_start: 1, commit: 0, batches: Vec::new() });
    }
    model.acknowledged(1, 1, 2, 10, 1);
    let original = model.unknown(2, 1, 3, 11);
    let retry = model.unknown(2, 1, 3, 30);
    for (place, duplicate) in [(original, false), (retry, true)] {
        model.history.complete(
            place,
            40,
            AppendOutcome::Acknowledged { first_lsn: 3, last_lsn: 5, duplicate },
        );
    }
    model.acknowledged(1, 2, 1, 50, 6);
    model.unknown(2, 2, 2, 60);
    let conditional = model.acknowledged(1, 3, 2, 80, 9);
    model.append_at(conditional).expected_next_lsn = Some(9);
    let failed = model.unknown(2, 3, 4, 81);
    model.history.complete(failed, 95, AppendOutcome::CertainlyFailed);
    model.acknowledged(1, 4, 1, 200, 11);
    // Asked for, and never heard of again.
    model.unknown(4, 1, 1, 1);

    for (client, number, records) in [(1, 1, 2), (2, 1, 3), (1, 2, 1), (2, 2, 2), (1, 3, 2), (1, 4, 1)] {
        model.append_everywhere(client, number, records);
    }
    let shown = model.shown(1, 5);
    model.read(1, 100, shown);
    let shown = model.shown(2, 8);
    model.read(2, 110, shown);
    model.tail(1, 120, 10, true);
    model.tail(2, 130, 8, false);
    model.tail(2, 140, 10, false);
    model
}

fn expect_only(model: &Model, rule: Rule) {
    let verdict = model.check();
    assert_eq!(verdict.rules(), [rule], "{verdict}");
}

#[test]
fn the_good_history_passes_and_everything_in_it_was_looked_at() {
    let verdict = good().check();
    assert!(verdict.passed(), "{verdict}");
    let summary = verdict.summary;
    assert_eq!((summary.replicas, summary.clients, summary.appends), (3, 3, 9));
    assert_eq!((summary.acknowledged, summary.failed, summary.unknown), (6, 1, 2));
    assert_eq!((summary.conditional, summary.duplicates, summary.unknown_in_log), (1, 1, 1));
    assert_eq!((summary.log_batches, summary.log_records, summary.replica_records_compared), (6, 11, 22));
    assert_eq!((summary.acknowledged_records_found, summary.read_records_compared), (12, 12));
    assert_eq!((summary.tails, summary.tails_confirmed, summary.watermarks_compared), (3, 1, 3));
}

#[test]
fn an_answer_from_before_its_question_is_the_recorders_fault() {
    let mut model = good();
    let place = model.unknown(7, 1, 1, 300);
    model.history.complete(place, 299, AppendOutcome::CertainlyFailed);
    expect_only(&model, Rule::HistoryConsistent);

    let mut model = good();
    model.unknown(4, 1, 2, 300);
    expect_only(&model, Rule::HistoryConsistent);
}

#[test]
fn a_gap_or_a_missing_end_in_a_log_is_found() {
    let mut model = good();
    model.unknown(7, 1, 1, 300);
    for log in &mut model.logs {
        log.commit += 1;
        log.append(Stands::new(0, 7, 1, 1).ids);
    }
    expect_only(&model, Rule::DenseLsns);

    let mut model = good();
    model.logs[2].batches.pop();
    expect_only(&model, Rule::DenseLsns);
}

#[test]
fn forgetting_what_nobody_allowed_to_forget_is_found() {
    let mut model = good();
    model.logs[2].trim(3);
    expect_only(&model, Rule::OnlyTrimmedMissing);
    model.history.push(Operation::Trim(Trim { invoked: 150, before_lsn: 2 }));
    expect_only(&model, Rule::OnlyTrimmedMissing);
    model.history.push(Operation::Trim(Trim { invoked: 150, before_lsn: 3 }));
    assert_eq!(model.rules(), []);
}

#[test]
fn an_acknowledged_batch_that_is_gone_is_found() {
    let mut model = good();
    for log in &mut model.logs {
        log.batches.pop();
        log.commit = 10;
    }
    expect_only(&model, Rule::AcknowledgedKept);
}

#[test]
fn an_acknowledged_batch_replaced_by_another_is_found() {
    let mut model = good();
    for log in &mut model.logs {
        log.batches.pop();
        log.commit = 10;
    }
    model.append_everywhere(4, 1, 1);
    expect_only(&model, Rule::AcknowledgedKept);
}

#[test]
fn an_acknowledgement_that_tells_other_lsns_is_found() {
    let mut model = good();
    model.append_everywhere(4, 1, 1);
    let place = model.unknown(4, 1, 1, 1);
    model.history.complete(
        place,
        310,
        AppendOutcome::Acknowledged { first_lsn: 11, last_lsn: 11, duplicate: false },
    );
    expect_only(&model, Rule::AcknowledgedInPlace);

    model.append_at(place).outcome =
        AppendOutcome::Acknowledged { first_lsn: 12, last_lsn: 13, duplicate: false };
    expect_only(&model, Rule::AcknowledgedInPlace);
}

#[test]
fn a_torn_a_shuffled_or_a_merged_batch_is_found() {
    let ids = |indexes: &[u32]| indexes.iter().map(|index| RecordId::new(7, 1, *index)).collect::<Vec<_>>();
    for stands in [ids(&[0, 1]), ids(&[1, 2]), ids(&[0, 2, 1]), ids(&[0, 1, 2, 3]), ids(&[0, 1, 1, 2])] {
        let mut model = good();
        model.unknown(7, 1, 3, 300);
        model.logs.iter_mut().for_each(|log| log.append(stands.clone()));
        expect_only(&model, Rule::BatchWhole);
    }

    let mut model = good();
    model.unknown(7, 1, 3, 300);
    model
        .logs
        .iter_mut()
        .for_each(|log| [ids(&[0, 1]), ids(&[2])].into_iter().for_each(|part| log.append(part)));
    expect_only(&model, Rule::BatchWhole);

    let mut model = good();
    model.unknown(7, 1, 3, 300);
    let merged = [ids(&[0, 1, 2]), vec![RecordId::new(4, 1, 0)]].concat();
    model.logs.iter_mut().for_each(|log| log.append(merged.clone()));
    expect_only(&model, Rule::BatchWhole);
}

#[test]
fn a_batch_that_stands_twice_is_found() {
    let mut model = good();
    model.append_everywhere(2, 2, 2);
    expect_only(&model, Rule::BatchOnce);
}

#[test]
fn a_failed_batch_in_the_log_is_found() {
    let mut model = good();
    model.append_everywhere(2, 3, 4);
    expect_only(&model, Rule::FailedAbsent);
}

#[test]
fn a_record_that_nobody_wrote_is_found() {
    for stranger in [RecordId::FOREIGN, RecordId::new(9, 1, 0), RecordId::new(1, 5, 0)] {
        let mut model = good();
        model.logs.iter_mut().for_each(|log| log.append(vec![stranger]));
        expect_only(&model, Rule::NothingInvented);
    }
}

#[test]
fn a_client_out_of_its_order_is_found_unless_it_asked_for_none() {
    let mut model = good();
    let first = model.unknown(7, 1, 1, 300);
    model.unknown(7, 2, 1, 300);
    model.append_everywhere(7, 2, 1);
    model.append_everywhere(7, 1, 1);
    expect_only(&model, Rule::ClientOrder);
    model.append_at(first).in_order = false;
    assert_eq!(model.rules(), []);
}

#[test]
fn a_batch_behind_one_asked_for_after_it_was_complete_is_found() {
    let mut model = good();
    model.acknowledged(7, 1, 1, 300, 13);
    model.unknown(8, 1, 1, 311);
    model.append_everywhere(8, 1, 1);
    model.append_everywhere(7, 1, 1);
    expect_only(&model, Rule::RealTime);
}

#[test]
fn a_batch_shown_before_anyone_asked_for_it_is_found() {
    let mut model = good();
    model.unknown(7, 1, 1, 300);
    model.append_everywhere(7, 1, 1);
    model.read(1, 290, [(12, RecordId::new(7, 1, 0))]);
    expect_only(&model, Rule::RealTime);
}

#[test]
fn a_read_that_showed_something_else_than_the_log_holds_is_found() {
    let mut model = good();
    model.read(
        3,
        300,
        [(6, RecordId::new(1, 2, 0)), (7, RecordId::new(4, 1, 0)), (8, RecordId::new(2, 2, 1))],
    );
    expect_only(&model, Rule::ReadMatchesLog);
}

#[test]
fn two_values_under_one_lsn_are_found_even_when_it_was_trimmed_since() {
    let mut model = good();
    model.history.push(Operation::Trim(Trim { invoked: 150, before_lsn: 7 }));
    model.logs.iter_mut().for_each(|log| log.trim(7));
    assert_eq!(model.rules(), []);
    assert_eq!(model.check().summary.acknowledged_trimmed, 4);
    model.read(2, 300, [(3, RecordId::new(4, 1, 0))]);
    expect_only(&model, Rule::OneValuePerLsn);
}

#[test]
fn replicas_that_keep_more_than_the_longest_are_heard_about_what_it_forgot() {
    let mut model = good();
    model.history.push(Operation::Trim(Trim { invoked: 150, before_lsn: 9 }));
    for log in &mut model.logs[..2] {
        log.trim(9);
    }
    model.append_everywhere(4, 1, 1);
    let short = &mut model.logs[2];
    short.batches.pop();
    short.commit -= 1;
    assert_eq!(model.rules(), []);
    let forgotten = model.check().summary.trimmed_records_known;
    assert_eq!(forgotten, 8);
    // Unknown to acknowledgements and reads: the third replica alone still has the second record of LSN 7–8.
    model.history.operations.retain(|operation| !matches!(operation, Operation::Read(_)));
    model.read(1, 300, [(8, RecordId::new(7, 1, 0))]);
    model.unknown(7, 1, 1, 1);
    expect_only(&model, Rule::OneValuePerLsn);
}

#[test]
fn a_read_that_leaves_records_out_is_found() {
    let mut model = good();
    let mut shown = model.shown(2, 8);
    shown.remove(2);
    model.read(3, 300, shown);
    expect_only(&model, Rule::ReadDense);

    let mut model = good();
    let records = model.shown(4, 8).into_iter().collect();
    let read = Read {
        reader: 5,
        node: 1,
        from_lsn: 2,
        invoked: 300,
        completed: 305,
        high_watermark: None,
        records,
        continues: false,
    };
    model.history.push(Operation::Read(read));
    expect_only(&model, Rule::ReadDense);
    model.history.push(Operation::Trim(Trim { invoked: 250, before_lsn: 4 }));
    assert_eq!(model.rules(), []);
}

#[test]
fn a_subscription_that_skips_or_repeats_is_found() {
    let continued = |model: &mut Model, shown: Vec<(u64, RecordId)>, invoked| {
        let place = model.read(2, invoked, shown);
        let Operation::Read(read) = &mut model.history.operations[place] else { unreachable!() };
        (read.reader, read.continues) = (7, true);
    };
    for (shown, rules) in
        [((6, 8), &[][..]), ((7, 8), &[Rule::SubscriptionUnbroken]), ((5, 8), &[Rule::SubscriptionUnbroken])]
    {
        let mut model = good();
        let first = model.shown(1, 5);
        continued(&mut model, first, 300);
        let next = model.shown(shown.0, shown.1);
        continued(&mut model, next, 310);
        assert_eq!(model.rules(), rules, "{shown:?}");
    }
    let mut model = good();
    let (first, next) = (model.shown(1, 2), model.shown(6, 8));
    continued(&mut model, next, 310);
    continued(&mut model, first, 300);
    expect_only(&model, Rule::SubscriptionUnbroken);
    model.history.push(Operation::Trim(Trim { invoked: 250, before_lsn: 6 }));
    assert_eq!(model.rules(), [], "what lies between may be gone");
}

#[test]
fn a_confirmed_tail_below_what_was_known_is_found_and_a_followers_own_is_not() {
    for (high_watermark, confirmed, rules) in
        [(10, true, &[Rule::TailNotBehind][..]), (10, false, &[]), (11, true, &[]), (11, false, &[])]
    {
        let mut model = good();
        model.tail(3, 300, high_watermark, confirmed);
        assert_eq!(model.rules(), rules, "{high_watermark}, confirmed: {confirmed}");
    }
}

#[test]
fn what_was_shown_but_not_committed_in_the_end_is_found() {
    let mut model = good();
    model.read(1, 300, [(12, RecordId::new(4, 1, 0))]);
    expect_only(&model, Rule::NothingAboveCommit);

    let mut model = good();
    model.tail(1, 300, 12, false);
    expect_only(&model, Rule::NothingAboveCommit);
}

#[test]
fn a_conditional_batch_elsewhere_than_it_asked_is_found() {
    let mut model = good();
    let append = Append { expected_next_lsn: Some(11), ..Append::invoked(7, 1, 2, 300) };
    model.history.push(Operation::Append(append));
    model.append_everywhere(7, 1, 2);
    expect_only(&model, Rule::ConditionHeld);
}

#[test]
fn a_duplicate_answered_with_other_lsns_is_found() {
    let mut model = good();
    let place = model.unknown(2, 1, 3, 300);
    model.history.complete(
        place,
        305,
        AppendOutcome::Acknowledged { first_lsn: 9, last_lsn: 11, duplicate: true },
    );
    expect_only(&model, Rule::DuplicateOriginal);
}

#[test]
fn a_replica_with_another_record_or_other_batches_is_found() {
    let mut model = good();
    model.logs[2].batches[1].ids[2] = RecordId::new(4, 1, 0);
    expect_only(&model, Rule::ReplicasAgree);

    let mut model = good();
    let end = model.logs[2].batches[1].ids.pop().unwrap();
    model.logs[2].batches.insert(2, Stands { first_lsn: 5, ids: vec![end] });
    expect_only(&model, Rule::ReplicasAgree);

    let mut model = good();
    let next = model.logs[2].batches.remove(1);
    model.logs[2].batches[0].ids.extend(next.ids);
    expect_only(&model, Rule::ReplicasAgree);
}

#[test]
fn a_replica_that_lags_behind_agrees() {
    let mut model = good();
    for _ in 0..3 {
        let batch = model.logs[1].batches.pop().unwrap();
        model.logs[1].commit = batch.first_lsn - 1;
        assert_eq!(model.rules(), []);
    }
}

#[test]
fn a_watermark_that_goes_back_is_found_within_a_process_and_only_there() {
    let mut model = good();
    model.tail(2, 300, 8, false);
    expect_only(&model, Rule::WatermarkForward);
    model.history.push(Operation::Restart(Restart { node: 3, at: 250 }));
    expect_only(&model, Rule::WatermarkForward);
    model.history.push(Operation::Restart(Restart { node: 2, at: 250 }));
    assert_eq!(model.rules(), []);
}

#[test]
fn a_history_alone_is_held_against_itself() {
    let mut model = good();
    model.logs.clear();
    assert_eq!(model.rules(), []);
    model.read(3, 300, [(6, RecordId::new(4, 1, 0))]);
    expect_only(&model, Rule::OneValuePerLsn);
}

#[test]
fn a_check_of_nothing_is_seen_to_be_one() {
    let verdict = check(&lockstep_checker::History::default(), &FinalState::default());
    assert!(verdict.passed());
    assert!(verdict.summary.figures().iter().all(|(_, count)| *count == 0));
}

#[test]
fn every_rule_has_a_name_of_its_own_in_kebab_case() {
    let mut names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert!(names.iter().all(|name| name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Rule::ALL.len());
}
