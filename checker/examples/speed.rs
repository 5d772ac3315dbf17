//! How long a check takes: `cargo run --release -p lockstep-checker --example speed -- [RECORDS] [RECORDS PER BATCH]`.
//!
//! The history holds every batch acknowledged, every record read once, and a tail read for each thousand batches; the
//! log stands on three replicas.

use std::time::Instant;

use lockstep_checker::{
    Append, AppendOutcome, FinalState, History, Operation, Read, RecordId, Records, ReplicaLog, Tail, check,
};

const CLIENTS: u64 = 64;
const BATCHES_PER_READ: u64 = 1_000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<u64>().expect("a number"));
    let records = arguments.next().unwrap_or(20_000_000);
    let per_batch = arguments.next().unwrap_or(10).clamp(1, records);

    let (history, state) = build(records / per_batch, per_batch as u32);
    let started = Instant::now();
    let verdict = check(&history, &state);
    let elapsed = started.elapsed();
    println!("{verdict}");
    println!("{records} records in batches of {per_batch}, on three replicas: checked in {elapsed:.2?}");
    assert!(verdict.passed() && verdict.summary.log_records == records / per_batch * per_batch);
}

fn build(batches: u64, per_batch: u32) -> (History, FinalState) {
    let mut history = History::default();
    let end = batches * u64::from(per_batch);
    let mut replicas: Vec<_> = (1..=3).map(|node| ReplicaLog::new(node, 1, end)).collect();
    let mut shown = Records::default();
    for batch in 0..batches {
        let (client, number, time) = (batch % CLIENTS, batch / CLIENTS + 1, batch * 2);
        let first_lsn = batch * u64::from(per_batch) + 1;
        let last_lsn = first_lsn + u64::from(per_batch) - 1;
        let place = history.push(Operation::Append(Append::invoked(client, number, per_batch, time)));
        history.complete(
            place,
            time + 99,
            AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate: false },
        );
        let ids = (0..per_batch).map(|index| RecordId::new(client, number, index));
        replicas.iter_mut().for_each(|replica| replica.push_batch(first_lsn, ids.clone()));
        (first_lsn..).zip(ids).for_each(|(lsn, id)| shown.push(lsn, id));
        if (batch + 1) % BATCHES_PER_READ == 0 || batch + 1 == batches {
            let records = std::mem::take(&mut shown);
            let from_lsn = records.runs()[0].first_lsn;
            let (invoked, completed) = (time + 100, time + 150);
            let read = Read {
                reader: 1,
                node: 1,
                from_lsn,
                invoked,
                completed,
                high_watermark: Some(last_lsn),
                records,
                continues: false,
            };
            history.push(Operation::Read(read));
            let tail =
                Tail { reader: 1, node: 2, confirmed: true, invoked, completed, high_watermark: last_lsn };
            history.push(Operation::Tail(tail));
        }
    }
    (history, FinalState { replicas })
}
