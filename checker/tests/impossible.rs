//! Whatever a history says, checking it ends with a verdict.

mod model;

use lockstep_checker::{
    Append, AppendOutcome, FinalState, History, Operation, Read, RecordId, Records, ReplicaLog, Restart, Run,
    Tail, Trim, check,
};
use model::generate::Random;

/// Numbers that lie at the ends of what there is, and a few that meet each other.
fn number(random: &mut Random) -> u64 {
    let ends =
        [0, 1, 2, 3, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX - 2, u64::MAX - 1, u64::MAX];
    *random.choice(&ends).expect("there are some")
}

fn small(random: &mut Random) -> u32 {
    *random.choice(&[0, 1, 2, 3, u32::MAX - 1, u32::MAX]).expect("there are some")
}

fn records(random: &mut Random) -> Records {
    let mut records = Records::default();
    for _ in 0..random.between(0, 4) {
        let (first_lsn, client, number) = (number(random), number(random), number(random));
        let (first_index, count) = (small(random), small(random));
        records.push_run(Run { first_lsn, client, number, first_index, records: count });
    }
    records
}

fn operation(random: &mut Random) -> Operation {
    let (invoked, completed, node, high_watermark) =
        (number(random), number(random), number(random), number(random));
    match random.between(0, 4) {
        0 => {
            let mut append = Append::invoked(number(random), number(random), small(random), invoked);
            append.completed = completed;
            append.expected_next_lsn = random.percent(30).then(|| number(random));
            append.outcome = match random.between(0, 2) {
                0 => AppendOutcome::CertainlyFailed,
                1 => AppendOutcome::Unknown,
                _ => {
                    let (first_lsn, last_lsn, duplicate) =
                        (number(random), number(random), random.percent(50));
                    AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate }
                }
            };
            Operation::Append(append)
        }
        1 => {
            let (from_lsn, records) = (number(random), records(random));
            let high_watermark = random.percent(50).then_some(high_watermark);
            Operation::Read(Read {
                reader: 0,
                node,
                from_lsn,
                invoked,
                completed,
                high_watermark,
                records,
                continues: false,
            })
        }
        2 => {
            let confirmed = random.percent(50);
            Operation::Tail(Tail { reader: 0, node, confirmed, invoked, completed, high_watermark })
        }
        3 => Operation::Trim(Trim { invoked, before_lsn: number(random) }),
        _ => Operation::Restart(Restart { node, at: invoked }),
    }
}

fn log(random: &mut Random) -> ReplicaLog {
    let mut log = ReplicaLog::new(number(random), number(random), number(random));
    for _ in 0..random.between(0, 5) {
        let first_lsn = number(random);
        let mut ids = Vec::new();
        for _ in 0..random.between(0, 4) {
            ids.push(RecordId::new(number(random), number(random), small(random)));
        }
        log.push_batch(first_lsn, ids);
    }
    log
}

#[test]
fn numbers_at_the_ends_of_their_range_do_not_end_the_check() {
    let (mut passed, mut broken) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut history = History::default();
        for _ in 0..random.between(0, 12) {
            history.push(operation(&mut random));
        }
        let mut state = FinalState::default();
        for _ in 0..random.between(0, 3) {
            state.replicas.push(log(&mut random));
        }
        let result = std::panic::catch_unwind(|| check(&history, &state));
        match result {
            Ok(verdict) if verdict.passed() => passed += 1,
            Ok(_) => broken += 1,
            Err(_) => panic!("seed {seed} ends the check: {history:?} {state:?}"),
        }
    }
    assert!(passed > 0 && broken > 10_000, "{passed} passed, {broken} did not");
}
