//! Random histories of a log that keeps every promise, from a seed.

use lockstep_checker::{Append, AppendOutcome, Operation, Read, Records, Restart, Tail, Trim};

use super::{Log, Model, Stands};

/// SplitMix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn percent(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    pub fn choice<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let last = items.len().checked_sub(1)?;
        items.get(self.between(0, last as u64) as usize)
    }
}

/// A batch somebody asked for.
#[derive(Debug, Clone, Copy)]
struct Pending {
    place: usize,
    /// Where it stands, once it does.
    first_lsn: Option<u64>,
}

struct Question {
    node: usize,
    invoked: u64,
    /// The commit when it was asked.
    commit: u64,
}

struct World {
    random: Random,
    now: u64,
    model: Model,
    log: Log,
    /// By client.
    pending: Vec<Vec<Pending>>,
    numbers: Vec<u64>,
    /// By node.
    watermarks: Vec<u64>,
    questions: Vec<Question>,
    trim_allowed: u64,
    subscriber_next: u64,
}

const NODES: usize = 3;
const CLIENTS: usize = 4;

/// A good history of `steps` steps, and three logs that fit it.
pub fn good(seed: u64, steps: usize) -> Model {
    let mut world = World {
        random: Random(seed),
        now: 1,
        model: Model::default(),
        log: Log { node: 0, log_start: 1, commit: 0, batches: Vec::new() },
        pending: vec![Vec::new(); CLIENTS],
        numbers: vec![0; CLIENTS],
        watermarks: vec![0; NODES],
        questions: Vec::new(),
        trim_allowed: 1,
        subscriber_next: 1,
    };
    for _ in 0..steps {
        world.step();
    }
    world.finish()
}

impl World {
    fn step(&mut self) {
        self.now += self.random.between(0, 3);
        let client = self.random.between(0, CLIENTS as u64 - 1) as usize;
        let node = self.random.between(0, NODES as u64 - 1) as usize;
        match self.random.between(1, 100) {
            1..=25 => self.invoke(client),
            26..=50 => self.commit(client),
            51..=70 => self.answer(client),
            71..=80 => self.watermarks[node] = self.random.between(self.watermarks[node], self.log.commit),
            81..=88 => self.questions.push(Question { node, invoked: self.now, commit: self.log.commit }),
            89..=97 => self.show(),
            98 => self.restart(node),
            _ => self.trim(),
        }
    }

    fn invoke(&mut self, client: usize) {
        if self.pending[client].len() >= 4 {
            return;
        }
        self.numbers[client] += 1;
        let records = self.random.between(1, 4) as u32;
        let mut append = Append::invoked(client as u64, self.numbers[client], records, self.now);
        if self.random.percent(20) {
            append.expected_next_lsn = Some(self.log.commit + 1);
        }
        let place = self.model.history.push(Operation::Append(append));
        self.pending[client].push(Pending { place, first_lsn: None });
    }

    /// The client's oldest batch takes its place, fails, or is lost on the way.
    fn commit(&mut self, client: usize) {
        let Some(at) = self.pending[client].iter().position(|pending| pending.first_lsn.is_none()) else {
            return;
        };
        let place = self.pending[client][at].place;
        let append = *self.model.append_at(place);
        let refused = append.expected_next_lsn.is_some_and(|expected| expected != self.log.commit + 1);
        if refused || self.random.percent(5) {
            self.model.history.complete(place, self.now, AppendOutcome::CertainlyFailed);
            self.pending[client].remove(at);
        } else if self.random.percent(5) {
            self.pending[client].remove(at);
        } else {
            self.pending[client][at].first_lsn = Some(self.log.commit + 1);
            self.log.append(Stands::new(0, append.client, append.number, append.records).ids);
        }
    }

    fn answer(&mut self, client: usize) {
        let standing = self.pending[client].iter().position(|pending| pending.first_lsn.is_some());
        let Some((place, Some(first_lsn))) = standing
            .map(|at| self.pending[client].remove(at))
            .map(|pending| (pending.place, pending.first_lsn))
        else {
            return;
        };
        let append = *self.model.append_at(place);
        let last_lsn = first_lsn + u64::from(append.records) - 1;
        if !self.random.percent(15) {
            let outcome = AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate: false };
            self.model.history.complete(place, self.now, outcome);
        } else if self.random.percent(70) {
            let retry = self.model.history.push(Operation::Append(Append { invoked: self.now, ..append }));
            self.now += self.random.between(1, 3);
            let outcome = AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate: true };
            self.model.history.complete(retry, self.now, outcome);
        }
    }

    /// Answers an open question with records, or with how far the log goes.
    fn show(&mut self) {
        let Some(Question { node, invoked, commit }) = self.questions.pop() else { return };
        let node_id = node as u64 + 1;
        let completed = self.now;
        let watermark = self.watermarks[node];
        match self.random.between(1, 4) {
            1 => {
                let high_watermark = self.random.between(commit, self.log.commit);
                // Whoever confirms a tail knows it from then on.
                self.watermarks[node] = watermark.max(high_watermark);
                let high_watermark = self.watermarks[node];
                let tail =
                    Tail { reader: 0, node: node_id, confirmed: true, invoked, completed, high_watermark };
                self.model.history.push(Operation::Tail(tail));
            }
            2 => {
                let tail = Tail {
                    reader: 0,
                    node: node_id,
                    confirmed: false,
                    invoked,
                    completed,
                    high_watermark: watermark,
                };
                self.model.history.push(Operation::Tail(tail));
            }
            3 => self.push(node_id, invoked, watermark),
            _ => {
                let from_lsn = self.random.between(1, watermark + 1);
                let start = from_lsn.max(if self.random.percent(50) { self.trim_allowed } else { 1 });
                let records = self.records(start, watermark.min(start + 12));
                let high_watermark = self.random.percent(50).then_some(watermark);
                let read = Read {
                    reader: 1,
                    node: node_id,
                    from_lsn,
                    invoked,
                    completed,
                    high_watermark,
                    records,
                    continues: false,
                };
                self.model.history.push(Operation::Read(read));
            }
        }
    }

    /// Goes on with the one subscription there is, at whichever node.
    fn push(&mut self, node: u64, invoked: u64, watermark: u64) {
        let trimmed = self.subscriber_next < self.trim_allowed && self.random.percent(50);
        let from_lsn = if trimmed { self.trim_allowed } else { self.subscriber_next };
        let records = self.records(from_lsn, watermark.min(from_lsn + 12));
        if let Some(last) = records.last_lsn() {
            self.subscriber_next = last + 1;
            let (completed, high_watermark) = (self.now, Some(watermark));
            let read = Read {
                reader: 2,
                node,
                from_lsn,
                invoked,
                completed,
                high_watermark,
                records,
                continues: true,
            };
            self.model.history.push(Operation::Read(read));
        }
    }

    fn records(&self, from: u64, to: u64) -> Records {
        let records =
            self.log.batches.iter().flat_map(|batch| (batch.first_lsn..).zip(batch.ids.iter().copied()));
        records.filter(|(lsn, _)| (from..=to).contains(lsn)).collect()
    }

    fn restart(&mut self, node: usize) {
        self.questions.retain(|question| question.node != node);
        self.now += 1;
        self.model.history.push(Operation::Restart(Restart { node: node as u64 + 1, at: self.now }));
        self.watermarks[node] = self.random.between(0, self.watermarks[node]);
    }

    fn trim(&mut self) {
        if self.random.percent(10) && self.log.commit > 0 {
            let before_lsn = self.random.between(1, self.log.commit);
            self.trim_allowed = self.trim_allowed.max(before_lsn);
            self.model.history.push(Operation::Trim(Trim { invoked: self.now, before_lsn }));
        }
    }

    /// Each node keeps from somewhere in what may be trimmed, to somewhere in what it showed; one keeps up.
    fn finish(mut self) -> Model {
        let ahead = self.random.between(0, NODES as u64 - 1) as usize;
        for node in 0..NODES {
            let shown = self.watermarks[node].max(self.trim_allowed);
            let mut log = Log { node: node as u64 + 1, ..self.log.clone() };
            let keeps = self.random.between(shown.min(self.log.commit), self.log.commit);
            log.batches.retain(|batch| node == ahead || batch.end_lsn() <= keeps + 1);
            log.commit = log.batches.last().map_or(0, |batch| batch.end_lsn() - 1);
            let log_start = self.random.between(1, self.trim_allowed).min(log.commit + 1);
            log.trim(log_start);
            self.model.logs.push(log);
        }
        self.model
    }
}
