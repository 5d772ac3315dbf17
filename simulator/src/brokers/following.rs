//! The metadata followed, and what a broker holds made to match it.

use std::collections::BTreeSet;
use std::sync::Arc;

use lockstep::cluster::hosting::{self, Wanted};
use lockstep::cluster::{Command, MetadataState, fold};
use lockstep::engine::{self, METADATA_SHARD};
use lockstep::replica::Mark;
use lockstep::shard::{self, Input, ShardSettings};
use lockstep_protocol::RecordIter;
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::{CachedRead, ReadBatch};

use super::{Broker, notes};
use crate::node::{Mail, Process};
use crate::queue::{Event, MILLISECOND};
use crate::replica::Input as ReplicaInput;
use crate::server::partition_of;
use crate::world::{World, directory};

impl World {
    /// A broker's process begins: it knows its notes, and opens its copy of the metadata log.
    pub(crate) fn start_broker(&mut self, id: u64) {
        let node = &self.nodes[&id];
        let (disk, life) = (Arc::clone(&node.disk), node.life);
        let Some(identity) = node.identity.clone() else { return };
        let noted = notes::read(&*disk, id).and_then(|here| Ok((here, notes::read_brokers(&*disk)?)));
        let (here, remembered) = match noted {
            Ok(noted) => noted,
            Err(error) => return self.disk_failed(id, &format!("its notes: {error}")),
        };
        let was_here = here.shards.contains(&METADATA_SHARD);
        let wanted = Wanted {
            shard: METADATA_SHARD,
            may_be_made: !was_here,
            founders: identity.founders.clone(),
            hosts: remembered.iter().chain(&identity.founders).copied().collect(),
            settings: ShardSettings::default(),
        };
        let broker = Broker::new(identity, here, remembered, self.placements.clone());
        if let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) {
            process.broker = Some(Box::new(broker));
        }
        if self.host_wanted(id, &wanted) {
            self.queue.after(MILLISECOND, Event::Broker { node: id, life });
        }
    }

    /// Applies what is committed of the metadata and not applied yet.
    pub(super) fn follow(&mut self, id: u64) {
        while let Some(batches) = self.with_broker(id, |process, broker| unapplied(process, broker)).flatten()
        {
            for batch in batches {
                self.observe_metadata(&batch);
                let applied = self.with_broker(id, |_, broker| {
                    let before = broker.state.applied_lsn();
                    let applied = fold::apply_batch(batch.bytes, Arc::make_mut(&mut broker.state));
                    (applied, before, Arc::clone(&broker.state))
                });
                let Some((applied, before, state)) = applied else { return };
                if let Err(why) = applied {
                    return self.violate("metadata-reads", format!("node {id}: {why}"));
                }
                let checked = self.brokers.rules.agrees(id, before, &state);
                self.check(checked);
                if self.violation.is_some() {
                    return;
                }
                self.note(id, "followed", [state.applied_lsn()], String::new);
            }
        }
        self.with_broker(id, |process, broker| {
            broker.learn_placements();
            let Some(hosted) = process.hosted.get(&METADATA_SHARD) else { return };
            let described = hosted.replica.describe();
            let term = hosted.replica.log().and_then(|log| log.term(log.commit()));
            broker.current |= fold::is_current(&described, broker.state.applied_lsn(), term);
        });
        self.remember_brokers(id);
    }

    /// Writes down which brokers there are, once that is known for certain.
    fn remember_brokers(&mut self, id: u64) {
        let disk = Arc::clone(&self.nodes[&id].disk);
        let noted = self.with_broker(id, |_, broker| {
            let members: BTreeSet<u64> = broker.state.members().map(|(member, _)| member.id).collect();
            if broker.current && members != broker.remembered {
                notes::write_brokers(&*disk, &members)?;
                broker.remembered = members;
            }
            Ok::<(), std::io::Error>(())
        });
        if let Some(Err(error)) = noted {
            self.disk_failed(id, &format!("its notes: {error}"));
        }
    }

    /// What the observer has not seen yet.
    fn observe_metadata(&mut self, batch: &ReadBatch) {
        let Ok(records) = RecordIter::new(batch.bytes.clone()) else { return };
        for numbered in records.flatten() {
            if numbered.lsn <= self.brokers.rules.newest().applied_lsn() {
                continue;
            }
            let Ok(command) = Command::from_record(&numbered.record) else { continue };
            let (checked, counted) = self.brokers.rules.apply(&command, &self.invariants);
            counted.into_iter().for_each(|name| self.stats.fault(name));
            let now = self.queue.now();
            self.trace.note(now, None, "metadata", [numbered.lsn], || {
                format!("{} {command:?}{}", numbered.lsn, if counted.is_none() { "" } else { " done" })
            });
            self.check(checked);
        }
    }

    /// Drops, makes, opens and tells shards until this broker has what the state says.
    pub(super) fn reconcile(&mut self, id: u64) {
        if !self.finish_dropping(id) {
            return;
        }
        let defaults = self.retention_defaults();
        let missing = self.with_broker(id, |process, broker| {
            broker.here.missing(&broker.state, &defaults, |shard| process.hosted.contains_key(&shard))
        });
        for wanted in missing.into_iter().flatten() {
            if !self.host_wanted(id, &wanted) {
                return;
            }
        }
        self.with_broker(id, |process, broker| broker.tell(process, &defaults));
        self.wake_worker(id);
    }

    fn retention_defaults(&self) -> ShardSettings {
        let settings = &self.plan.cluster;
        ShardSettings { retention_bytes: settings.retention_bytes, retention_ms: settings.retention_ms }
    }

    /// Makes a shard's files if they never were here, notes that they are, and opens them. Returns whether it is open.
    fn host_wanted(&mut self, id: u64, wanted: &Wanted) -> bool {
        let shard = wanted.shard;
        let disk = Arc::clone(&self.nodes[&id].disk);
        if wanted.may_be_made && !disk.exists(&directory(shard)).unwrap_or(false) {
            let options = self.shard_options(id, shard);
            let shared: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&disk);
            if let Err(error) = shard::create(&shared, &options, &wanted.founders, &mut self.random) {
                self.disk_failed(id, &format!("shard {shard} is not created: {error}"));
                return false;
            }
            if shard != METADATA_SHARD {
                self.stats.fault("replica-created");
            }
            self.note(id, "created", [shard], || format!("shard {shard} of {:?}", wanted.founders));
        }
        let noted = self.change_notes(id, |here| here.shards.insert(shard));
        if !noted {
            return false;
        }
        let peers = wanted.hosts.iter().copied().filter(|host| *host != id).collect();
        self.host(id, shard, peers);
        let hosted = self.nodes[&id].process.as_ref().is_some_and(|it| it.hosted.contains_key(&shard));
        hosted && self.violation.is_none()
    }

    /// Notes a change of what is here, if it is one. Returns whether that is durable.
    fn change_notes(&mut self, id: u64, change: impl FnOnce(&mut hosting::Here) -> bool) -> bool {
        let disk = Arc::clone(&self.nodes[&id].disk);
        let noted = self.with_broker(id, |_, broker| {
            let mut here = broker.here.clone();
            if change(&mut here) {
                notes::write(&*disk, &here)?;
                broker.here = here;
            }
            Ok::<(), std::io::Error>(())
        });
        match noted {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                self.disk_failed(id, &format!("its notes: {error}"));
                false
            }
            None => false,
        }
    }

    /// Drops what has moved away from here, as far as it agrees.
    pub(super) fn drop_departed(&mut self, id: u64) {
        let departed = self.with_broker(id, |process, broker| {
            let agrees = |(shard, index): (u64, u64)| {
                Some((shard, process.hosted.get(&shard)?.replica.promised_if_dropped(index)?))
            };
            let open = process.hosted.keys().copied();
            let departed = broker.here.departed(&broker.state, open).into_iter();
            (departed.filter_map(agrees).collect::<Vec<_>>(), broker.state.applied_lsn())
        });
        let Some((departed, applied_lsn)) = departed else { return };
        let disk = Arc::clone(&self.nodes[&id].disk);
        for (shard, promised) in departed {
            let checked = self.brokers.rules.may_drop(id, shard, applied_lsn, &self.invariants);
            self.check(checked);
            self.stop_hosting(id, shard);
            if let Err(error) = promised.write(&*disk, &directory(shard)) {
                return self.disk_failed(id, &format!("what shard {shard} promised: {error}"));
            }
            if !self.change_notes(id, |here| here.dropping.insert(shard)) {
                return;
            }
        }
        self.finish_dropping(id);
    }

    fn stop_hosting(&mut self, id: u64, shard: u64) {
        if let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) {
            process.hosted.remove(&shard);
            process.jobs.retain(|_, (of, _)| *of != shard);
        }
    }

    /// Deletes the files of shards that were about to go. Returns whether none are left.
    fn finish_dropping(&mut self, id: u64) -> bool {
        let dropping = self.with_broker(id, |_, broker| broker.here.dropping.clone());
        let disk = Arc::clone(&self.nodes[&id].disk);
        for shard in dropping.into_iter().flatten() {
            let removed = engine::remove_files(&*disk, &directory(shard))
                .and_then(|()| Mark::remove(&*disk, &directory(shard)));
            if let Err(error) = removed {
                self.disk_failed(id, &format!("shard {shard} is not dropped: {error}"));
                return false;
            }
            if !self.change_notes(id, |here| here.dropping.remove(&shard) | here.shards.remove(&shard)) {
                return false;
            }
            self.invariants.dropped(id, shard);
            self.ledger.replaced(partition_of(shard), id, self.queue.now());
            self.stats.fault("replica-dropped");
            self.note(id, "dropped", [shard], || format!("shard {shard}"));
        }
        true
    }
}

/// Batches that are committed and not applied.
fn unapplied(process: &Process, broker: &Broker) -> Option<Vec<ReadBatch>> {
    let (reader, up_to) = process.hosted.get(&METADATA_SHARD)?.replica.reader()?;
    let next = broker.state.applied_lsn() + 1;
    if next > up_to {
        return None;
    }
    let read = match reader.cached(next, usize::MAX, up_to) {
        CachedRead::Hit(batches) => batches,
        _ => reader.read(next, usize::MAX, up_to).ok()?,
    };
    Some(read).filter(|batches| !batches.is_empty())
}

impl Broker {
    fn learn_placements(&mut self) {
        let mut known = (*self.known).clone();
        for (_, placement) in self.state.placements() {
            if let Some(known) = known.get_mut(&placement.shard) {
                known.target = placement.hosts().collect();
            }
        }
        self.known = Arc::new(known);
    }

    /// Tells each open shard its settings and who holds it, if that is not what it was told last.
    fn tell(&mut self, process: &mut Process, defaults: &ShardSettings) {
        self.told.retain(|shard, _| process.hosted.contains_key(shard));
        let of_topics = self.state.placements().map(|(topic, placement)| {
            let now = (hosting::settings(topic, defaults), placement.hosts().collect::<Vec<u64>>());
            (placement.shard, now)
        });
        let members: Vec<u64> = self.state.members().map(|(member, _)| member.id).collect();
        let of_metadata = (METADATA_SHARD, (ShardSettings::default(), members));
        let all: Vec<_> = of_topics.chain([of_metadata]).collect();
        for (shard, now) in all {
            let open = process.hosted.contains_key(&shard) && !now.1.is_empty();
            if !open || self.told.get(&shard) == Some(&now) {
                continue;
            }
            let peers = now.1.iter().copied().filter(|host| *host != process.node).collect();
            for input in [Input::Settings(now.0.clone()).into(), ReplicaInput::Peers(peers)] {
                process.inbox.push_back(Mail::One(shard, Box::new(input)));
            }
            self.told.insert(shard, now);
        }
    }

    /// Whether a shard's files are, or should be, here.
    pub(crate) fn has(&self, shard: u64) -> bool {
        self.here.shards.contains(&shard)
    }

    /// What it has applied.
    pub(super) fn state(&self) -> &Arc<MetadataState> {
        &self.state
    }
}
