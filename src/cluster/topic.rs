//! Topics as the metadata knows them.

use lockstep_planted::{self as planted, Bug};
use serde::{Deserialize, Serialize};

use crate::engine::ShardId;

/// A topic's settings; the default keeps everything for ever within the broker's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicSettings {
    /// Bytes to keep per partition; `None` for the broker's default.
    pub retention_bytes: Option<u64>,
    /// Milliseconds to keep a record for, by the leader's time; `None` for the broker's default.
    pub retention_ms: Option<u64>,
    /// Longest batch in bytes; `None` for the broker's limit.
    pub max_batch_bytes: Option<u32>,
    /// Skip the walk over each record of a batch: that LSNs are without gaps then depends on the producers.
    pub trust_producers: bool,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its id; never used again, even for a later topic of the same name.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its partitions, 0 first.
    pub partitions: Vec<Placement>,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Where a partition lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The shard that serves it.
    pub shard: ShardId,
    /// The brokers that hold a replica; the first one is preferred as its leader.
    pub replicas: Vec<u64>,
    /// The brokers that shall hold one instead, while it moves; the same ones while a move is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<Vec<u64>>,
    /// The brokers that may hold one of a move that is taken back, or goes elsewhere by now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<u64>,
    /// The voters that the files of each replica begin with, whoever votes today.
    pub founders: Vec<u64>,
    /// Index of the membership that the last move ended with, 0 before the first: whoever is not in it and knows of no later
    /// one may go.
    pub membership_index: u64,
}

impl Placement {
    /// A shard that has not moved yet.
    pub fn new(shard: ShardId, replicas: Vec<u64>) -> Placement {
        Placement { shard, founders: replicas.clone(), replicas, ..Placement::default() }
    }

    /// Every broker that holds a replica, is to hold one, or may hold one still; those of now first.
    pub fn hosts(&self) -> impl Iterator<Item = u64> {
        let new = self.moving_to.iter().flatten().chain(&self.leaving);
        let new = new.filter(|broker| !self.replicas.contains(broker));
        self.replicas.iter().chain(new).copied()
    }

    /// Where its replicas are to be in the end.
    pub fn goal(&self) -> &[u64] {
        self.moving_to.as_deref().unwrap_or(&self.replicas)
    }

    /// Whether a move is being taken back.
    pub fn is_reverting(&self) -> bool {
        self.moving_to.as_ref() == Some(&self.replicas)
    }

    /// Its replicas shall be there. If nothing but their order changes, they are at once, unless they move already.
    pub(super) fn begin_move(&mut self, to: &[u64]) {
        if self.moving_to.is_some() {
            return self.redirect(to);
        }
        let is_here =
            to.len() == self.replicas.len() && to.iter().all(|broker| self.replicas.contains(broker));
        match is_here {
            true => self.replicas = to.to_vec(),
            false => self.moving_to = Some(to.to_vec()),
        }
    }

    /// They are where they were to go, since the membership of that index.
    pub(super) fn finish_move(&mut self, membership_index: u64) {
        if let Some(replicas) = self.moving_to.take() {
            self.replicas = replicas;
        }
        self.leaving.clear();
        if !planted::is_active(Bug::ForgetMembershipOfMove) {
            self.membership_index = membership_index;
        }
    }

    /// They shall be where they were. They may have moved by now: that is a move too, back.
    pub(super) fn cancel_move(&mut self) {
        self.redirect(&self.replicas.clone());
    }

    /// They shall be there instead. By now they may be wherever they were to go before.
    fn redirect(&mut self, to: &[u64]) {
        let before = self.moving_to.replace(to.to_vec()).unwrap_or_default();
        for broker in before {
            if !self.leaving.contains(&broker) {
                self.leaving.push(broker);
            }
        }
        self.leaving.retain(|broker| !self.replicas.contains(broker) && !to.contains(broker));
    }
}
