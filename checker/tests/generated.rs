//! Random good histories pass; bent in one random place, they do not.
#![allow(clippy::unwrap_used)]

mod model;

use lockstep_checker::{AppendOutcome, Operation, Read, RecordId, Records, Rule, Run, Summary};
use model::generate::{Random, good};
use model::{Model, Stands};

/// The seeds of one run. `LOCKSTEP_CHECKER_SEED` starts elsewhere.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = std::env::var("LOCKSTEP_CHECKER_SEED").map_or(1, |seed| seed.parse().unwrap());
    first..first + count
}

#[test]
fn good_histories_pass_and_together_hold_everything() {
    let mut seen: Vec<(&str, u64)> = Summary::default().figures();
    for seed in seeds(2_000) {
        let verdict = good(seed, 30 + (seed as usize % 10) * 40).check();
        assert!(verdict.passed(), "seed {seed}: {verdict}");
        for (total, (_, count)) in seen.iter_mut().zip(verdict.summary.figures()) {
            total.1 += count;
        }
    }
    assert!(seen.iter().all(|(_, count)| *count > 100), "something was never checked: {seen:?}");
}

/// Bends a model in one place. False if it has no such place.
type Mutation = fn(&mut Model, &mut Random) -> bool;

/// Each mutation, and the rules of which at least one must be found broken. More may be: a lost batch moves all others.
const MUTATIONS: &[(&str, Mutation, &[Rule])] = &[
    ("lose an acknowledged end", lose_the_end, &[Rule::AcknowledgedKept]),
    ("lose a batch in the middle", lose_in_the_middle, &[Rule::AcknowledgedKept]),
    ("swap two neighbours", swap_neighbours, &[Rule::AcknowledgedInPlace]),
    ("repeat a batch at the end", repeat_a_batch, &[Rule::BatchOnce]),
    ("tear a batch", tear_a_batch, &[Rule::BatchWhole]),
    ("another record on one replica", change_a_record, &[Rule::ReplicasAgree, Rule::BatchWhole]),
    ("a gap on one replica", open_a_gap, &[Rule::DenseLsns]),
    ("forget without leave", forget, &[Rule::OnlyTrimmedMissing]),
    ("tell another LSN", tell_another_lsn, &[Rule::AcknowledgedInPlace, Rule::DuplicateOriginal]),
    ("show another record", show_another_record, &[Rule::ReadMatchesLog, Rule::OneValuePerLsn]),
    ("leave a record out of a read", leave_out, &[Rule::ReadDense]),
    ("show what is not committed", show_too_much, &[Rule::NothingAboveCommit]),
    ("lower a confirmed tail", lower_a_tail, &[Rule::TailNotBehind]),
    ("a failed batch in the log", fail_what_stands, &[Rule::FailedAbsent]),
    ("a batch nobody asked for", invent, &[Rule::NothingInvented]),
    ("leave a push out of a subscription", skip_a_push, &[Rule::SubscriptionUnbroken]),
    ("another expected LSN", bend_a_condition, &[Rule::ConditionHeld]),
];

#[test]
fn a_history_bent_in_one_place_is_caught() {
    for (name, mutate, rules) in MUTATIONS {
        let mut applied = 0;
        for seed in seeds(300) {
            let mut model = good(seed, 300);
            if mutate(&mut model, &mut Random(seed ^ 0xbeef)) {
                applied += 1;
                let verdict = model.check();
                let caught = rules.iter().any(|rule| verdict.counts.contains_key(rule));
                assert!(caught, "{name}, seed {seed}: none of {rules:?} in {verdict}");
            }
        }
        println!("{name}: caught in all {applied} histories that have a place for it");
        assert!(applied >= 30, "{name}: only {applied} histories have a place for it");
    }
}

/// A place of an operation that `wanted` accepts, at random.
fn find(model: &Model, random: &mut Random, wanted: impl Fn(&Operation) -> bool) -> Option<usize> {
    let places: Vec<usize> = (0..model.history.operations.len()).collect();
    let fitting: Vec<usize> =
        places.into_iter().filter(|place| wanted(&model.history.operations[*place])).collect();
    random.choice(&fitting).copied()
}

fn longest(model: &Model) -> usize {
    (0..model.logs.len()).max_by_key(|place| model.logs[*place].commit).unwrap()
}

/// The logs become copies of the longest one, each with all that is kept anywhere.
fn level(model: &mut Model) -> Option<()> {
    let log = model.logs[longest(model)].clone();
    model.logs.iter_mut().for_each(|other| *other = model::Log { node: other.node, ..log.clone() });
    (log.batches.len() > 3).then_some(())
}

fn told(model: &Model, batch: &Stands) -> bool {
    let id = batch.ids[0];
    model.history.operations.iter().any(|operation| match operation {
        Operation::Append(append) => {
            (append.client, append.number) == (id.client, id.number)
                && matches!(append.outcome, AppendOutcome::Acknowledged { .. })
        }
        _ => false,
    })
}

fn skip_a_push(model: &mut Model, random: &mut Random) -> bool {
    let operations = &model.history.operations;
    let trimmed = operations.iter().filter_map(|operation| match operation {
        Operation::Trim(trim) => Some(trim.before_lsn),
        _ => None,
    });
    let trimmed = trimmed.max().unwrap_or(1);
    let pushes: Vec<(usize, u64)> = operations
        .iter()
        .enumerate()
        .filter_map(|(place, operation)| match operation {
            Operation::Read(read) if read.continues => Some((place, read.from_lsn)),
            _ => None,
        })
        .collect();
    let between = pushes.windows(3).filter(|three| three[2].1 > trimmed).map(|three| three[1].0);
    let Some(skipped) = random.choice(&between.collect::<Vec<_>>()).copied() else { return false };
    model.history.operations.remove(skipped);
    true
}

fn lose_the_end(model: &mut Model, _: &mut Random) -> bool {
    if level(model).is_none() {
        return false;
    }
    let last = model.logs[0].batches.last().unwrap().clone();
    for log in &mut model.logs {
        log.batches.pop();
        log.commit = last.first_lsn - 1;
    }
    told(model, &last)
}

fn lose_in_the_middle(model: &mut Model, random: &mut Random) -> bool {
    if level(model).is_none() {
        return false;
    }
    let place = random.between(1, model.logs[0].batches.len() as u64 - 1) as usize;
    let lost = model.logs[0].batches[place].clone();
    for log in &mut model.logs {
        let later = log.batches.split_off(place);
        log.commit = lost.first_lsn - 1;
        later.into_iter().skip(1).for_each(|batch| log.append(batch.ids));
    }
    told(model, &lost)
}

fn swap_neighbours(model: &mut Model, random: &mut Random) -> bool {
    if level(model).is_none() {
        return false;
    }
    let place = random.between(1, model.logs[0].batches.len() as u64 - 2) as usize;
    let (first, second) = (model.logs[0].batches[place].clone(), model.logs[0].batches[place + 1].clone());
    for log in &mut model.logs {
        let later = log.batches.split_off(place);
        log.commit = first.first_lsn - 1;
        let swapped = [second.ids.clone(), first.ids.clone()].into_iter();
        swapped.chain(later.into_iter().skip(2).map(|batch| batch.ids)).for_each(|ids| log.append(ids));
    }
    // Those that were answered "duplicate" alone are found by the other rule.
    [&first, &second].iter().all(|batch| told(model, batch))
        && !model.check().counts.contains_key(&Rule::DuplicateOriginal)
}

fn repeat_a_batch(model: &mut Model, random: &mut Random) -> bool {
    if level(model).is_none() {
        return false;
    }
    let ids = random.choice(&model.logs[0].batches[1..]).unwrap().ids.clone();
    model.logs.iter_mut().for_each(|log| log.append(ids.clone()));
    true
}

fn tear_a_batch(model: &mut Model, random: &mut Random) -> bool {
    if level(model).is_none() {
        return false;
    }
    let long = |place: &usize| model.logs[0].batches[*place].ids.len() > 1;
    let places: Vec<usize> = (1..model.logs[0].batches.len()).filter(long).collect();
    let Some(place) = random.choice(&places) else { return false };
    for log in &mut model.logs {
        let later = log.batches.split_off(*place);
        log.commit = later[0].first_lsn - 1;
        log.append(later[0].ids[1..].to_vec());
        later.into_iter().skip(1).for_each(|batch| log.append(batch.ids));
    }
    true
}

fn change_a_record(model: &mut Model, random: &mut Random) -> bool {
    let place = random.between(0, 2) as usize;
    let reference = longest(model);
    let log_start = model.logs[reference].log_start;
    let Some(last) = model.logs[place].batches.len().checked_sub(1) else { return false };
    let batch = &mut model.logs[place].batches[random.between(0, last as u64) as usize];
    let index = random.between(0, batch.ids.len() as u64 - 1) as usize;
    batch.ids[index].number += 1;
    // Of what no other replica holds, and nobody was told or shown, nobody can know.
    place != reference && batch.first_lsn >= log_start
}

fn open_a_gap(model: &mut Model, random: &mut Random) -> bool {
    let place = random.between(0, 2) as usize;
    let batches = &mut model.logs[place].batches;
    if batches.len() < 3 {
        return false;
    }
    batches.remove(random.between(1, batches.len() as u64 - 1) as usize);
    true
}

fn forget(model: &mut Model, random: &mut Random) -> bool {
    model.history.operations.retain(|operation| !matches!(operation, Operation::Trim(_)));
    let log = random.choice(&[0, 1, 2]).map(|place| &mut model.logs[*place]).unwrap();
    let log_start = log.log_start + 1;
    log.trim(log_start);
    log_start <= log.commit
}

fn tell_another_lsn(model: &mut Model, random: &mut Random) -> bool {
    let told = |operation: &Operation| matches!(operation, Operation::Append(append) if matches!(append.outcome, AppendOutcome::Acknowledged { .. }));
    let Some(place) = find(model, random, told) else { return false };
    let log_start = model.logs[longest(model)].log_start;
    let append = model.append_at(place);
    let AppendOutcome::Acknowledged { first_lsn, last_lsn, .. } = &mut append.outcome else { return false };
    (*first_lsn, *last_lsn) = (*first_lsn + 1, *last_lsn + 1);
    *first_lsn > log_start
}

fn read_with<'a>(model: &'a mut Model, random: &mut Random, at_least: u64) -> Option<&'a mut Read> {
    let enough = |operation: &Operation| matches!(operation, Operation::Read(read) if read.records.count() >= at_least);
    let place = find(model, random, enough)?;
    match &mut model.history.operations[place] {
        Operation::Read(read) => Some(read),
        _ => None,
    }
}

fn each(records: &Records) -> Vec<(u64, RecordId)> {
    let of_run = |run: &Run| {
        let run = *run;
        (run.first_lsn..run.end_lsn()).map(move |lsn| (lsn, run.id_at(lsn)))
    };
    records.runs().iter().flat_map(of_run).collect()
}

fn show_another_record(model: &mut Model, random: &mut Random) -> bool {
    let log_start = model.logs[longest(model)].log_start;
    let place = random.between(0, 2) as usize;
    let Some(read) = read_with(model, random, 3) else { return false };
    let mut records = each(&read.records);
    records[place].1.index += 1;
    let kept = records[place].0 >= log_start;
    read.records = records.into_iter().collect();
    kept
}

fn leave_out(model: &mut Model, random: &mut Random) -> bool {
    let Some(read) = read_with(model, random, 3) else { return false };
    let mut records = each(&read.records);
    records.remove(1);
    read.records = records.into_iter().collect();
    true
}

fn show_too_much(model: &mut Model, random: &mut Random) -> bool {
    let commit = model.logs[longest(model)].commit;
    let Some(read) = read_with(model, random, 1) else { return false };
    read.records.push(commit + 1, RecordId::new(0, 1, 0));
    true
}

fn lower_a_tail(model: &mut Model, random: &mut Random) -> bool {
    let first = model.history.operations.iter().find_map(|operation| match operation {
        Operation::Append(append) => {
            matches!(append.outcome, AppendOutcome::Acknowledged { .. }).then_some(append.completed)
        }
        _ => None,
    });
    let Some(first) = first else { return false };
    let late = |operation: &Operation| matches!(operation, Operation::Tail(tail) if tail.confirmed && tail.invoked > first);
    let Some(place) = find(model, random, late) else { return false };
    if let Operation::Tail(tail) = &mut model.history.operations[place] {
        tail.high_watermark = 0;
    }
    true
}

fn fail_what_stands(model: &mut Model, random: &mut Random) -> bool {
    let batches = &model.logs[longest(model)].batches;
    let Some(id) = random.choice(batches).map(|batch| batch.ids[0]) else { return false };
    for operation in &mut model.history.operations {
        if let Operation::Append(append) = operation
            && (append.client, append.number) == (id.client, id.number)
        {
            append.outcome = AppendOutcome::CertainlyFailed;
        }
    }
    true
}

fn invent(model: &mut Model, random: &mut Random) -> bool {
    let batches = &model.logs[longest(model)].batches;
    let Some(id) = random.choice(batches).map(|batch| batch.ids[0]) else { return false };
    let asked = |operation: &Operation| matches!(operation, Operation::Append(append) if (append.client, append.number) == (id.client, id.number));
    model.history.operations.retain(|operation| !asked(operation));
    true
}

fn bend_a_condition(model: &mut Model, random: &mut Random) -> bool {
    let batches = &model.logs[longest(model)].batches;
    let Some(batch) = random.choice(batches).cloned() else { return false };
    for operation in &mut model.history.operations {
        if let Operation::Append(append) = operation
            && (append.client, append.number) == (batch.ids[0].client, batch.ids[0].number)
        {
            append.expected_next_lsn = Some(batch.first_lsn + 1);
        }
    }
    true
}
