//! Consumer groups' positions as state of a shard: what they survive, what they depend on, and what goes with a batch.

mod cluster;

use cluster::{Cluster, clients::append_of};
use lockstep::random::Random;
use lockstep::shard::positions::{POSITIONS_MAX, Position, PositionCommit, PositionRefusal};
use lockstep::shard::{Answer, Append, AppendError, Appended, Command, Token};
use lockstep_protocol::batch_builder::ProducerSequence;

/// What the group reads; it is kept in the only shard there is.
const SOURCE: u64 = 77;
const PRODUCER: ProducerSequence = ProducerSequence { id: 9, epoch: 0, base_sequence: 0 };

fn led_by_1() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster
}

fn at(next_lsn: u64) -> PositionCommit {
    PositionCommit {
        group: "billing".into(),
        source: SOURCE,
        next_lsn,
        generation: 0,
        metadata: "".into(),
        expected_next_lsn: None,
        expected_generation: None,
    }
}

fn commit(cluster: &mut Cluster, node: u64, position: PositionCommit) -> Token {
    cluster.command(node, Command::CommitPosition(position))
}

fn ask(cluster: &mut Cluster, node: u64) -> Token {
    cluster.positions(node)
}

fn told(cluster: &Cluster, token: Token) -> Option<Vec<Position>> {
    match cluster.answer(token)? {
        Ok(Answer::Positions(positions)) => Some(positions.clone()),
        _ => None,
    }
}

/// The group's position, confirmed.
fn position(cluster: &mut Cluster, node: u64) -> Option<u64> {
    let token = ask(cluster, node);
    cluster.settle();
    let positions = told(cluster, token).expect("a leader answers");
    positions
        .iter()
        .find(|found| found.source == SOURCE && &*found.group == "billing")
        .map(|found| found.next_lsn)
}

fn with_position(value: &str, producer: ProducerSequence, position: PositionCommit) -> Append {
    Append { position: Some(position), ..append_of(&[value], producer) }
}

#[test]
fn a_committed_position_is_told_by_this_leader_and_the_next() {
    let mut cluster = led_by_1();
    assert_eq!(position(&mut cluster, 1), None);
    let done = commit(&mut cluster, 1, at(5));
    cluster.settle();
    assert_eq!(cluster.answer(done), Some(&Ok(Answer::Done)));
    cluster.elect(2);
    assert_eq!(position(&mut cluster, 2), Some(5));
    assert_eq!(cluster.produce(2, &["a position takes no LSN"]).first_lsn, 1);
}

#[test]
fn a_position_rolls_back_with_its_lost_suffix() {
    let mut cluster = led_by_1();
    commit(&mut cluster, 1, at(5));
    cluster.settle();
    cluster.isolate(1);
    let lost = commit(&mut cluster, 1, at(9));
    let lost_with_batch = cluster.append(1, with_position("lost", ProducerSequence::NONE, at(12)));
    let lost_delete = cluster.command(1, Command::DeletePositions { group: "billing".into(), source: None });
    cluster.settle();
    cluster.elect(2);
    cluster.produce(2, &["kept"]);
    cluster.heal();
    for _ in 0..3 {
        cluster.tick_all();
    }
    for token in [lost, lost_with_batch, lost_delete] {
        assert_eq!(cluster.answer(token), Some(&Err(AppendError::OutcomeUnknown)));
    }
    cluster.elect(1);
    assert_eq!(position(&mut cluster, 1), Some(5));
    cluster.assert_everywhere(&["kept"]);
}

#[test]
fn a_position_is_not_told_before_it_is_committed() {
    let mut cluster = led_by_1();
    cluster.isolate(1);
    commit(&mut cluster, 1, at(5));
    let asked = ask(&mut cluster, 1);
    cluster.settle();
    assert_eq!(cluster.answer(asked), None);
    cluster.elect(2);
    assert_eq!(position(&mut cluster, 2), None);
}

#[test]
fn a_batch_and_its_position_are_one() {
    let mut cluster = led_by_1();
    let first = PositionCommit { expected_next_lsn: Some(0), ..at(2) };
    let stored = cluster.append(1, with_position("one", ProducerSequence::NONE, first.clone()));
    let again = cluster.append(1, with_position("one again", ProducerSequence::NONE, first));
    cluster.settle();
    let appended = Appended { first_lsn: 1, last_lsn: 1, duplicate: false };
    assert_eq!(cluster.answer(stored), Some(&Ok(Answer::Appended(appended))));
    let conflict = PositionRefusal::Conflict { next_lsn: 2 };
    assert_eq!(cluster.answer(again), Some(&Err(AppendError::Position(conflict))));
    cluster.assert_everywhere(&["one"]);
    assert_eq!(position(&mut cluster, 1), Some(2));
    // A batch that is refused for another reason commits no position.
    let elsewhere =
        Append { expected_next_lsn: Some(9), ..with_position("two", ProducerSequence::NONE, at(3)) };
    let refused = cluster.append(1, elsewhere);
    cluster.settle();
    assert_eq!(cluster.answer(refused), Some(&Err(AppendError::ConditionFailed { next_lsn: 2 })));
    assert_eq!(position(&mut cluster, 1), Some(2));
}

#[test]
fn a_batch_sent_again_with_its_position_is_a_duplicate_although_the_position_moved_on() {
    let mut cluster = led_by_1();
    let batch = |sequence, value, before, after| {
        let position = PositionCommit { expected_next_lsn: Some(before), ..at(after) };
        with_position(value, ProducerSequence { base_sequence: sequence, ..PRODUCER }, position)
    };
    cluster.append(1, batch(0, "one", 0, 2));
    cluster.append(1, batch(1, "two", 2, 3));
    cluster.settle();
    cluster.elect(3);
    let again = cluster.append(3, batch(0, "one", 0, 2));
    cluster.settle();
    let original = Appended { first_lsn: 1, last_lsn: 1, duplicate: true };
    assert_eq!(cluster.answer(again), Some(&Ok(Answer::Appended(original))));
    assert_eq!(position(&mut cluster, 3), Some(3));
}

#[test]
fn a_zombie_is_fenced_by_who_took_over() {
    let mut cluster = led_by_1();
    let of = |generation, next_lsn| PositionCommit { generation, ..at(next_lsn) };
    commit(&mut cluster, 1, of(1, 5));
    let take_over = PositionCommit { expected_generation: Some(1), expected_next_lsn: Some(5), ..of(2, 5) };
    let (first, second) = (commit(&mut cluster, 1, take_over.clone()), commit(&mut cluster, 1, take_over));
    let zombie = cluster.append(1, with_position("late", ProducerSequence::NONE, of(1, 6)));
    let heir = cluster.append(1, with_position("heir's", ProducerSequence::NONE, of(2, 6)));
    cluster.settle();
    let fenced = Err(AppendError::Position(PositionRefusal::Fenced { current: 2 }));
    assert_eq!(cluster.answer(first), Some(&Ok(Answer::Done)));
    assert_eq!(cluster.answer(second), Some(&fenced), "of two that take over one does");
    assert_eq!(cluster.answer(zombie), Some(&fenced));
    assert!(matches!(cluster.answer(heir), Some(Ok(Answer::Appended(_)))));
    cluster.assert_everywhere(&["heir's"]);
}

#[test]
fn positions_survive_restarts_checkpoints_and_snapshots() {
    let mut cluster = Cluster::with_segments(3, 8192);
    cluster.elect(1);
    cluster.append(1, with_position("one", PRODUCER, PositionCommit { generation: 3, ..at(5) }));
    cluster.settle();
    cluster.isolate(3);
    for _ in 0..20 {
        cluster.produce(1, &[&"x".repeat(1000)]);
    }
    let trim = cluster.command(1, Command::Trim { log_start: 15 });
    cluster.settle();
    assert_eq!(cluster.answer(trim), Some(&Ok(Answer::Done)));
    assert!(cluster.describe(1).first_index > 2, "what committed it is gone from the log");
    for node in 1..=2 {
        cluster.crash(node, node);
        cluster.start(node);
    }
    cluster.heal();
    cluster.wait_until("node 3 has caught up by a snapshot", |cluster| {
        cluster.describe(3).view.log_start >= 10 && cluster.describe(3).last_lsn == 21
    });
    for node in 1..=3 {
        assert_eq!(cluster.describe(node).positions, 1, "on node {node}");
    }
    cluster.elect(3);
    assert_eq!(position(&mut cluster, 3), Some(5));
    let zombie = commit(&mut cluster, 3, PositionCommit { generation: 2, ..at(6) });
    cluster.settle();
    let fenced = AppendError::Position(PositionRefusal::Fenced { current: 3 });
    assert_eq!(cluster.answer(zombie), Some(&Err(fenced)), "its generation survived too");
}

#[test]
fn readers_and_repair_see_batches_without_their_state_sections() {
    let mut cluster = Cluster::with_segments(3, 8192);
    cluster.limit_cache(0);
    cluster.elect(1);
    let values: Vec<String> = (0..24).map(|number| format!("{number} {}", "x".repeat(900))).collect();
    for (number, value) in (1..).zip(&values) {
        let position = PositionCommit { metadata: "m".repeat(number as usize * 7).into(), ..at(number) };
        cluster.append(1, with_position(value, ProducerSequence::NONE, position));
        cluster.settle();
    }
    cluster.assert_everywhere(&values.iter().map(String::as_str).collect::<Vec<_>>());
    for node in 1..=3 {
        cluster.crash(node, 40 + node);
        cluster.start(node);
    }
    let leader = cluster.wait_for_leader();
    cluster.assert_everywhere(&values.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(position(&mut cluster, leader), Some(24));
}

#[test]
fn beyond_the_limit_the_oldest_goes_and_whoever_expects_it_is_refused() {
    let mut cluster = led_by_1();
    commit(&mut cluster, 1, at(5));
    for source in 1_000..1_000 + POSITIONS_MAX as u64 {
        commit(&mut cluster, 1, PositionCommit { source, ..at(1) });
    }
    let next = PositionCommit { expected_next_lsn: Some(5), ..at(6) };
    let refused = cluster.append(1, with_position("out of nowhere", ProducerSequence::NONE, next));
    cluster.settle();
    let conflict = AppendError::Position(PositionRefusal::Conflict { next_lsn: 0 });
    assert_eq!(cluster.answer(refused), Some(&Err(conflict)));
    assert_eq!(cluster.describe(2).positions, POSITIONS_MAX);
}

#[test]
fn what_cannot_be_a_position_is_refused_and_changes_nothing() {
    let mut cluster = led_by_1();
    let nameless = commit(&mut cluster, 1, PositionCommit { group: "".into(), ..at(1) });
    let zero = cluster.append(1, with_position("zero", ProducerSequence::NONE, at(0)));
    let delete = cluster.command(1, Command::DeletePositions { group: "g".repeat(256).into(), source: None });
    cluster.settle();
    for (token, refusal) in
        [(nameless, PositionRefusal::Group), (zero, PositionRefusal::Zero), (delete, PositionRefusal::Group)]
    {
        assert_eq!(cluster.answer(token), Some(&Err(AppendError::Position(refusal))));
    }
    cluster.assert_everywhere(&[]);
}

/// One incarnation of a process that reads inputs 1, 2, 3 … and writes one output for each.
#[derive(Clone, Copy)]
struct Process {
    generation: u64,
    next_input: u64,
}

/// The world of a read-process-write loop: the cluster, and chance.
struct Loop {
    cluster: Cluster,
    random: Random,
    seed: u64,
    killed: u32,
    crashed: u32,
}

impl Loop {
    /// Sends something to a leader; what it was told, if the process lives to hear it.
    fn ask(&mut self, send: impl Fn(&mut Cluster, u64) -> Token) -> Option<Result<Answer, AppendError>> {
        let leader = self.cluster.wait_for_leader();
        let token = send(&mut self.cluster, leader);
        match self.random.below(8) {
            0 => {
                self.crash(leader);
            }
            1 => {
                for _ in 0..self.random.below(12) {
                    self.cluster.deliver_one();
                    self.cluster.run_writes();
                }
                let node = 1 + self.random.below(3);
                self.crash(node);
            }
            2 => {
                self.cluster.isolate(leader);
                self.cluster.settle();
                for _ in 0..30 {
                    self.cluster.tick_all();
                }
                self.cluster.heal();
            }
            _ => {}
        }
        for _ in 0..5 {
            self.cluster.settle();
            self.cluster.tick_all();
        }
        if self.random.below(6) == 0 {
            self.killed += 1;
            return None;
        }
        Some(self.cluster.answer(token).cloned().unwrap_or(Err(AppendError::OutcomeUnknown)))
    }

    fn crash(&mut self, node: u64) {
        self.crashed += 1;
        let seed = self.random.next_u64();
        self.cluster.crash(node, seed);
        self.cluster.start(node);
    }

    /// A new process takes the group over; `None` if it dies on the way.
    fn take_over(&mut self) -> Option<Process> {
        loop {
            let answer = self.ask(|cluster, leader| {
                let token = ask(cluster, leader);
                cluster.settle();
                token
            })?;
            let Ok(Answer::Positions(found)) = answer else { continue };
            let found = found.iter().find(|found| found.source == SOURCE);
            let (next, generation) = found.map_or((0, 0), |found| (found.next_lsn, found.generation));
            let process = Process { generation: generation + 1, next_input: next.max(1) };
            let claim = PositionCommit {
                generation: process.generation,
                expected_next_lsn: Some(next),
                expected_generation: Some(generation),
                ..at(process.next_input)
            };
            let answer = self.ask(|cluster, leader| commit(cluster, leader, claim.clone()))?;
            if answer == Ok(Answer::Done) {
                return Some(process);
            }
        }
    }

    /// Processes inputs up to `last`; whether it lived to see the end.
    fn run(&mut self, mut process: Process, last: u64) -> bool {
        while process.next_input <= last {
            let input = process.next_input;
            let position = PositionCommit { generation: process.generation, ..at(input + 1) };
            // Whoever took the group over has set it to its first input.
            let position = PositionCommit { expected_next_lsn: Some(input), ..position };
            let output = with_position(&format!("output of {input}"), ProducerSequence::NONE, position);
            match self.ask(|cluster, leader| cluster.append(leader, output.clone())) {
                Some(Ok(Answer::Appended(_))) => process.next_input += 1,
                Some(Err(AppendError::Position(PositionRefusal::Conflict { next_lsn })))
                    if next_lsn == input + 1 =>
                {
                    process.next_input += 1;
                }
                Some(Err(AppendError::Position(refusal))) => {
                    panic!("seed {}: the only live process was refused: {refusal}", self.seed)
                }
                Some(_) => {}
                None => return false,
            }
        }
        true
    }
}

#[test]
fn a_process_and_brokers_that_are_killed_at_random_give_each_input_exactly_one_output() {
    const INPUTS: u64 = 40;
    let (mut killed, mut crashed) = (0, 0);
    for seed in 1..=6 {
        let mut world = Loop { cluster: led_by_1(), random: Random::new(seed), seed, killed: 0, crashed: 0 };
        while world.take_over().is_none_or(|process| !world.run(process, INPUTS)) {}
        for _ in 0..20 {
            world.cluster.tick_all();
        }
        let outputs: Vec<String> = (1..=INPUTS).map(|input| format!("output of {input}")).collect();
        let expected: Vec<_> = (1..).zip(outputs).collect();
        let leader = world.cluster.wait_for_leader();
        assert_eq!(world.cluster.records(leader), expected, "seed {seed}");
        killed += world.killed;
        crashed += world.crashed;
    }
    assert!(killed > 20 && crashed > 20, "{killed} processes were killed and {crashed} brokers crashed");
}
