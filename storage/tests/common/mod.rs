//! A log on a simulated disk beside a model of what may be on that disk.
//!
//! The model is a list of states: the one that is certainly durable, and every one the log went through since. A
//! crash may leave a prefix of any of them, as long as everything acknowledged is in it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod random_history;
pub mod twin;

use bytes::Bytes;
use lockstep_storage::io::fake::FakeDisk;
use lockstep_storage::{
    Cache, CachedRead, Checkpoint, Entry, EntryKind, Envelope, EnvelopeKind, Log, LogOptions, LogReader,
    Recovered, RecoveryError, RecoveryReport, Replay, RollState, Vote, WriteGroup,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const DIRECTORY: &str = "shard-7";

/// SplitMix64: the tests' only source of chance, printed as a seed when one fails.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

pub fn small_options() -> LogOptions {
    LogOptions {
        shard: 7,
        segment_bytes: 12 << 10,
        cache: Cache::new(3 << 10),
        index_interval_bytes: 1 << 10,
        ..LogOptions::default()
    }
}

/// An entry with `records` records (0 for a state entry) and recognisable bytes.
pub fn entry(index: u64, term: u64, first_lsn: u64, records: u32, body_bytes: usize) -> Entry {
    let mut random = Random(index.wrapping_mul(1_000_003) ^ term);
    let body: Bytes = (0..body_bytes).map(|_| random.next() as u8).collect();
    let envelope = Envelope {
        kind: if records == 0 { EnvelopeKind::State } else { EnvelopeKind::Batch },
        record_count: records,
        first_lsn,
        leader_time_ms: 1000 + index as i64,
        max_timestamp_ms: 5000 + 10 * index as i64,
        body_crc: Envelope::checksum(&body),
        state_length: if index.is_multiple_of(3) { body_bytes.min(5) as u32 } else { 0 },
        fence: 0,
    };
    Entry { index, term, kind: EntryKind::Normal, envelope: Bytes::copy_from_slice(&envelope.encode()), body }
}

#[derive(Clone, Debug)]
struct State {
    entries: BTreeMap<u64, Entry>,
    base: u64,
    last: u64,
    log_start: u64,
}

pub struct Rig {
    pub disk: Arc<FakeDisk>,
    pub options: LogOptions,
    pub log: Log,
    pub reader: LogReader,
    /// Durable state first, the present one last.
    states: Vec<State>,
    votes: Vec<Vote>,
    in_flight: Option<(WriteGroup, usize, usize)>,
    nonces: u64,
}

pub fn create(disk: &Arc<FakeDisk>, options: &LogOptions) {
    Log::create(
        disk.clone(),
        DIRECTORY,
        options,
        Checkpoint { log_start: 1, ..Checkpoint::default() },
        [1; 16],
    )
    .expect("a new directory");
}

pub fn recover(disk: &Arc<FakeDisk>, options: &LogOptions) -> Result<(Recovered, Vec<Entry>), RecoveryError> {
    let mut replayed = Vec::new();
    let recovered = Log::recover(disk.clone(), DIRECTORY, options.clone(), &mut |replay| {
        if let Replay::Entry(entry) = replay {
            replayed.push(entry.clone());
        }
    })?;
    Ok((recovered, replayed))
}

impl Rig {
    pub fn new(options: LogOptions) -> Self {
        let disk = FakeDisk::new();
        create(&disk, &options);
        Self::on(disk, options)
    }

    /// On a disk that holds a fresh log.
    pub fn on(disk: Arc<FakeDisk>, options: LogOptions) -> Self {
        let (recovered, _) = recover(&disk, &options).expect("a fresh log");
        let fresh = State { entries: BTreeMap::new(), base: 0, last: 0, log_start: 1 };
        let (log, reader) = (recovered.log, recovered.reader);
        let (states, votes) = (vec![fresh], vec![recovered.vote]);
        Self { disk, options, log, reader, states, votes, in_flight: None, nonces: 1 }
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn become_state(&mut self, change: impl FnOnce(&mut State)) {
        let mut next = self.now().clone();
        change(&mut next);
        self.states.push(next);
    }

    fn nonce(&mut self) -> [u8; 16] {
        self.nonces += 1;
        u128::from(self.nonces).to_le_bytes()
    }

    /// Appends one entry, rolling first where the log wants it. Nothing happens once the log has failed.
    pub fn append(&mut self, term: u64, records: u32, body_bytes: usize) {
        let (index, term) = (self.log.last_index() + 1, term.max(self.log.last_term()));
        let entry = entry(index, term, self.log.next_lsn(), records, body_bytes);
        self.append_entry(entry);
    }

    /// Appends an entry as raft-rs makes them: no envelope.
    pub fn append_system(&mut self, kind: EntryKind, body: &'static [u8]) {
        let (index, term) = (self.log.last_index() + 1, self.log.last_term());
        self.append_entry(Entry {
            index,
            term,
            kind,
            envelope: Bytes::new(),
            body: Bytes::from_static(body),
        });
    }

    fn append_entry(&mut self, entry: Entry) {
        if self.log.failed().is_some() {
            return;
        }
        if self.log.needs_roll(entry.payload_bytes()) {
            self.roll();
        }
        self.log.append(entry.clone()).expect("it continues the log");
        self.become_state(|state| {
            state.last = entry.index;
            state.entries.insert(entry.index, entry);
        });
    }

    pub fn roll(&mut self) {
        self.roll_with_membership_of(0);
    }

    /// Rolls with the membership that entry `membership_index` made.
    pub fn roll_with_membership_of(&mut self, membership_index: u64) {
        let log_start = self.log.log_start();
        let nonce = self.nonce();
        let state = Bytes::from(format!("state at {}", self.log.last_index()));
        let state = RollState { state, log_start, membership_index, ..RollState::default() };
        self.log.roll(state, nonce).expect("a small checkpoint");
    }

    pub fn truncate(&mut self, from: u64) {
        self.log.truncate(from).expect("an uncommitted entry");
        self.become_state(|state| {
            state.entries.split_off(&from);
            state.last = from - 1;
        });
    }

    /// The last LSN at or below the committed index.
    pub fn committed_lsn(&self) -> u64 {
        let committed = self.now().entries.range(..=self.log.commit());
        let envelope = committed.rev().find_map(|(_, entry)| entry.decode_envelope().unwrap());
        let next = envelope.map(|envelope| envelope.first_lsn + u64::from(envelope.record_count));
        next.map_or(self.log.oldest_checkpoint().last_lsn, |next| next - 1)
    }

    pub fn trim(&mut self, log_start: u64) {
        self.log.trim(log_start);
        self.become_state(|state| state.log_start = state.log_start.max(log_start));
    }

    pub fn install(&mut self, ahead: u64) {
        let checkpoint = Checkpoint {
            index: self.log.last_index() + ahead,
            term: self.log.last_term() + 1,
            last_lsn: self.log.last_lsn() + ahead,
            chain: 0xabcd,
            commit: self.log.last_index() + ahead,
            log_start: self.log.last_lsn() + ahead,
            ..Checkpoint::default()
        };
        let nonce = self.nonce();
        self.log.install(checkpoint.clone(), nonce).expect("a snapshot ahead");
        self.become_state(|state| {
            *state = State {
                entries: BTreeMap::new(),
                base: checkpoint.index,
                last: checkpoint.index,
                log_start: checkpoint.last_lsn + 1,
            }
        });
    }

    pub fn vote(&mut self, term: u64) {
        let vote = Vote { term, voted_for: term % 3 + 1, commit: self.log.commit() };
        self.log.set_vote(vote);
        self.votes.push(vote);
    }

    /// Hands the queue to a worker that has not begun.
    pub fn take(&mut self) {
        if let Some(group) = self.log.take_group() {
            self.in_flight = Some((group, self.states.len() - 1, self.votes.len() - 1));
        }
    }

    /// The worker does its work and reports.
    pub fn done(&mut self) {
        let Some((group, state, vote)) = self.in_flight.take() else { return };
        if self.log.group_done(group.run()).is_ok() {
            self.states.drain(..state);
            self.votes.drain(..vote);
        }
    }

    pub fn flush(&mut self) {
        self.done();
        while self.log.has_pending() && self.log.failed().is_none() {
            self.take();
            self.done();
        }
    }

    /// Recovers after a crash (the disk has been restarted) and checks that what is left is legal.
    pub fn recover(&mut self) -> RecoveryReport {
        let acknowledged = self.log.synced_index();
        self.in_flight = None;
        let (recovered, replayed) =
            recover(&self.disk, &self.options).expect("a crash alone damages nothing");
        let report = recovered.report.clone();
        (self.log, self.reader) = (recovered.log, recovered.reader);
        assert!(
            self.log.last_index() >= acknowledged,
            "acknowledged {acknowledged}, left {}",
            self.log.last_index()
        );
        assert!(
            self.votes
                .iter()
                .any(|vote| (vote.term, vote.voted_for) == (recovered.vote.term, recovered.vote.voted_for)),
            "{:?} is none of {:?}",
            recovered.vote,
            self.votes
        );
        let left = self.left();
        let newest = left.range(recovered.base.index + 1..).map(|(_, entry)| entry);
        assert!(newest.eq(replayed.iter()), "the replay shows every entry after its base");
        let (first, last) = (self.log.first_index(), self.log.last_index());
        let begins = self.log.oldest_checkpoint().last_lsn + 1;
        let legal = self.states.iter().rev().find(|state| {
            let in_it = left.iter().all(|(index, entry)| state.entries.get(index) == Some(entry));
            in_it
                && first > state.base
                && last <= state.last
                && last >= state.base
                && begins <= state.log_start
        });
        let Some(mut state) = legal.cloned() else {
            let states: Vec<_> = self.states.iter().map(|s| (s.base, s.last, s.log_start)).collect();
            panic!(
                "entries {first}..={last} from LSN {begins} are a prefix of none of {states:?}; {report:?}"
            )
        };
        state.entries.split_off(&(last + 1));
        state.last = last;
        self.states = vec![state];
        self.votes = vec![recovered.vote];
        self.check_reads();
        report
    }

    /// Every entry of the log, from disk.
    fn left(&self) -> BTreeMap<u64, Entry> {
        let mut left = BTreeMap::new();
        let mut next = self.log.first_index();
        while next <= self.log.last_index() {
            let entries = self.reader.read_entries(next, self.log.last_index() + 1, 5000).expect("readable");
            for entry in entries {
                assert_eq!(entry.index, next, "no gap");
                left.insert(next, entry);
                next += 1;
            }
        }
        left
    }

    /// Reads at every LSN, from memory and from disk, and compares with the model. All must be synced.
    pub fn check_reads(&self) {
        let (start, last) = (self.reader.log_start(), self.log.last_lsn());
        let batches: Vec<(Envelope, Bytes)> = self
            .now()
            .entries
            .values()
            .filter_map(|entry| Some((entry.decode_envelope().unwrap()?, entry.body.clone())))
            .filter(|(envelope, _)| envelope.record_count > 0)
            .collect();
        for lsn in start..=last {
            let at = batches.partition_point(|(e, _)| e.first_lsn + u64::from(e.record_count) <= lsn);
            let (envelope, body) = &batches[at];
            let expected = body.slice(envelope.state_length as usize..);
            let from_disk =
                self.reader.read(lsn, 1, last).unwrap_or_else(|error| panic!("LSN {lsn}: {error}"));
            assert_eq!(
                (from_disk[0].first_lsn, &from_disk[0].bytes),
                (envelope.first_lsn, &expected),
                "LSN {lsn}"
            );
            if let CachedRead::Hit(cached) = self.reader.cached(lsn, 1, last) {
                assert_eq!(cached, from_disk, "LSN {lsn}");
            }
        }
        assert_eq!(self.reader.cached(last + 1, 1, u64::MAX), CachedRead::AtEnd);
    }
}
