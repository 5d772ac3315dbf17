//! Who belongs to the cluster, as far as this broker knows: by the metadata, and by hearsay where it lags behind.
//!
//! What holds:
//! - A registered broker is who the metadata says: its addresses, and its data directory.
//! - Before this broker has followed the metadata that far, it takes others for what the configuration, the answer to its
//!   joining, or another broker says of them, and for what it knew of them itself in an earlier run: it must reach somebody
//!   to follow at all, and more than ever if its own copy of the metadata is damaged. Founders that have not registered yet
//!   stay known that way.
//! - A broker that was removed is never taken for a member again, whatever anybody says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Duty, Member, MetadataState, Refusal};
use crate::config::Node;
use crate::identity::{Acquaintance, DirectoryId};

/// A broker, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBroker {
    /// Its id.
    pub id: u64,
    /// Its data directory; not known of a founder that has not registered yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryId>,
    /// Where clients reach it, as `host:port`.
    pub native: String,
    /// Where other brokers reach it.
    pub peer: String,
    /// Where its admin API is.
    pub http: String,
    /// What fails together with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// What it is there for.
    #[serde(default)]
    pub duty: Duty,
}

/// The brokers of the cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    brokers: BTreeMap<u64, KnownBroker>,
    /// Where else they may be reached, by hearsay: all may have moved at once, and none could register that.
    elsewhere: BTreeMap<u64, Vec<String>>,
    /// Ids below this were given out; nothing before the cluster was founded.
    given_out_below: u64,
}

impl Members {
    /// Those the state names, and those that were heard of and that it does not rule out.
    fn of(Known { remembered, hearsay, state }: &Known) -> Members {
        let given_out_below = if state.is_founded() { state.next_broker() } else { 0 };
        // Of those the configuration alone names, founders count; others have to join.
        let is_new = |broker: &KnownBroker| {
            broker.id >= given_out_below && (!state.is_founded() || broker.directory.is_some())
        };
        let of_state =
            state.members().map(|(member, duty)| KnownBroker { duty, ..KnownBroker::from(&**member) });
        let heard = hearsay.values().filter(|broker| is_new(broker) || state.awaits(broker.id));
        let mut members = Members { given_out_below, ..Members::default() };
        // The likeliest first.
        of_state.for_each(|broker| members.add(&broker));
        heard.for_each(|broker| members.add(broker));
        hearsay.values().for_each(|broker| members.add_address(broker));
        remembered.values().filter(|broker| is_new(broker)).for_each(|broker| members.add(broker));
        members
    }

    fn add(&mut self, broker: &KnownBroker) {
        if self.brokers.contains_key(&broker.id) {
            return self.add_address(broker);
        }
        self.brokers.insert(broker.id, broker.clone());
    }

    /// One more place to look for a member.
    fn add_address(&mut self, broker: &KnownBroker) {
        let known = self.peer_addresses(broker.id);
        if !known.is_empty() && !known.contains(&broker.peer) {
            self.elsewhere.entry(broker.id).or_default().push(broker.peer.clone());
        }
    }

    /// Where the other brokers reach this one, the likeliest first; nothing of a stranger.
    pub fn peer_addresses(&self, id: u64) -> Vec<String> {
        let known = self.brokers.get(&id).map(|broker| &broker.peer);
        known.into_iter().chain(self.elsewhere.get(&id).into_iter().flatten()).cloned().collect()
    }

    /// All brokers, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &KnownBroker> {
        self.brokers.values()
    }

    /// Their ids.
    pub fn ids(&self) -> Vec<u64> {
        self.brokers.keys().copied().collect()
    }

    /// The broker of this id.
    pub fn get(&self, id: u64) -> Option<&KnownBroker> {
        self.brokers.get(&id)
    }

    /// Whether a broker that comes with this directory is the member it says it is.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, id: u64, directory: DirectoryId) -> Result<(), Refusal> {
        match self.brokers.get(&id) {
            Some(known) if known.directory.is_none_or(|known| known == directory) => Ok(()),
            Some(_) => Err(Refusal::BrokerTaken(id)),
            None if id < self.given_out_below => Err(Refusal::BrokerRemoved(id)),
            None => Err(Refusal::UnknownBroker(id)),
        }
    }
}

/// A broker as the metadata has it.
impl From<&Member> for KnownBroker {
    fn from(member: &Member) -> KnownBroker {
        KnownBroker {
            id: member.id,
            directory: Some(member.directory),
            native: member.native.clone(),
            peer: member.peer.clone(),
            http: member.http.clone(),
            rack: member.rack.clone(),
            duty: Duty::default(),
        }
    }
}

/// A broker as it was made known to one that joined.
impl From<&Acquaintance> for KnownBroker {
    fn from(met: &Acquaintance) -> KnownBroker {
        KnownBroker {
            id: met.id,
            directory: met.directory,
            native: met.native.clone(),
            peer: met.peer.clone(),
            http: met.http.clone(),
            rack: met.rack.clone(),
            duty: Duty::default(),
        }
    }
}

/// A broker as it is remembered.
impl From<&KnownBroker> for Acquaintance {
    fn from(known: &KnownBroker) -> Acquaintance {
        Acquaintance {
            id: known.id,
            directory: known.directory,
            native: known.native.clone(),
            peer: known.peer.clone(),
            http: known.http.clone(),
            rack: known.rack.clone(),
        }
    }
}

/// A broker of which nothing but the configuration is known.
impl From<&Node> for KnownBroker {
    fn from(node: &Node) -> KnownBroker {
        KnownBroker {
            id: node.id,
            directory: None,
            native: node.native.clone(),
            peer: node.peer.clone(),
            http: node.http.clone(),
            rack: None,
            duty: Duty::default(),
        }
    }
}

/// The members as they come and go, and whether this broker is still one of them.
pub struct Roster {
    known: Mutex<Known>,
    members: watch::Sender<Arc<Members>>,
    expelled: watch::Sender<Option<String>>,
}

struct Known {
    /// By this broker itself, in an earlier run.
    remembered: BTreeMap<u64, KnownBroker>,
    hearsay: BTreeMap<u64, KnownBroker>,
    state: Arc<MetadataState>,
}

impl Roster {
    /// Knows these brokers by hearsay, and those from an earlier run; no state yet.
    pub fn new(
        hearsay: impl IntoIterator<Item = KnownBroker>,
        remembered: impl IntoIterator<Item = KnownBroker>,
    ) -> Roster {
        let known = Known { remembered: by_id(remembered), hearsay: by_id(hearsay), state: Arc::default() };
        let members = Arc::new(Members::of(&known));
        Roster {
            known: Mutex::new(known),
            members: watch::Sender::new(members),
            expelled: watch::Sender::default(),
        }
    }

    /// The members now.
    pub fn members(&self) -> Arc<Members> {
        Arc::clone(&self.members.borrow())
    }

    /// The members, and a wake-up whenever they change.
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.subscribe()
    }

    /// The metadata was followed to this state.
    pub(super) fn follow(&self, state: &Arc<MetadataState>) {
        let mut known = self.lock();
        known.state = Arc::clone(state);
        self.publish(&known);
    }

    /// Another broker says that these are members. What the metadata says here goes before.
    pub(super) fn hear(&self, brokers: impl IntoIterator<Item = KnownBroker>) {
        let mut known = self.lock();
        known.hearsay.extend(by_id(brokers));
        self.publish(&known);
    }

    /// What was heard of a broker that is no member: of a founder that was given up.
    pub(super) fn heard_of(&self, id: u64) -> Option<KnownBroker> {
        self.lock().hearsay.get(&id).cloned()
    }

    /// This broker is no member any more, for good.
    pub fn expel(&self, why: String) {
        self.expelled.send_if_modified(|expelled| {
            let first = expelled.is_none();
            if first {
                tracing::error!(why, "this broker takes no part in the cluster any more");
                *expelled = Some(why);
            }
            first
        });
    }

    /// Why this broker is no member any more, if so; and a wake-up once it is.
    pub fn expelled(&self) -> watch::Receiver<Option<String>> {
        self.expelled.subscribe()
    }

    fn publish(&self, known: &Known) {
        let now = Members::of(known);
        self.members.send_if_modified(|members| {
            let changed = **members != now;
            if changed {
                *members = Arc::new(now);
            }
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn by_id(brokers: impl IntoIterator<Item = KnownBroker>) -> BTreeMap<u64, KnownBroker> {
    brokers.into_iter().map(|broker| (broker.id, broker)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Command, Member};

    fn broker(id: u64) -> Member {
        let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
        let directory = DirectoryId([id as u8; 16]);
        Member { id, directory, native: at(0), peer: at(1), http: at(2), rack: None }
    }

    fn followed(roster: &Roster, commands: &[Command]) {
        let mut state = MetadataState::default();
        commands.iter().for_each(|command| state.apply(command).unwrap());
        roster.follow(&Arc::new(state));
    }

    fn ids(roster: &Roster) -> Vec<u64> {
        roster.members().iter().map(|broker| broker.id).collect()
    }

    fn founders() -> Vec<KnownBroker> {
        let unknown = |id| KnownBroker { directory: None, ..KnownBroker::from(&broker(id)) };
        [1, 2, 3].map(unknown).into()
    }

    fn found() -> Command {
        Command::FoundCluster { replicas: vec![1, 2, 3] }
    }

    #[test]
    fn founders_are_members_before_they_register_and_then_with_one_directory_alone() {
        let roster = Roster::new(founders(), []);
        assert_eq!(roster.members().check(2, DirectoryId([8; 16])), Ok(()));
        followed(&roster, &[found(), Command::RegisterBroker(broker(2))]);
        assert_eq!(ids(&roster), [1, 2, 3]);
        assert_eq!(roster.members().check(2, broker(2).directory), Ok(()));
        assert_eq!(roster.members().check(2, DirectoryId([8; 16])), Err(Refusal::BrokerTaken(2)));
        assert_eq!(roster.members().check(4, broker(4).directory), Err(Refusal::UnknownBroker(4)));
    }

    #[test]
    fn a_removed_broker_is_no_member_whatever_is_said_of_it() {
        let roster = Roster::new(founders(), []);
        followed(&roster, &[found(), Command::RegisterBroker(broker(4)), Command::RemoveBroker { id: 4 }]);
        roster.hear([KnownBroker::from(&broker(4))]);
        assert_eq!(ids(&roster), [1, 2, 3]);
        assert_eq!(roster.members().check(4, broker(4).directory), Err(Refusal::BrokerRemoved(4)));
    }

    #[test]
    fn a_broker_that_lags_behind_takes_newer_members_on_hearsay() {
        let roster = Roster::new(founders(), []);
        let mut changes = roster.watch();
        followed(&roster, &[found()]);
        changes.mark_unchanged();
        roster.hear([KnownBroker::from(&broker(7))]);
        assert!(changes.has_changed().unwrap());
        assert_eq!(ids(&roster), [1, 2, 3, 7]);
        assert!(roster.members().check(7, DirectoryId([8; 16])).is_err());
    }

    #[test]
    fn a_broker_that_the_configuration_alone_names_is_no_member_once_the_cluster_is_founded() {
        let added = KnownBroker { directory: None, ..KnownBroker::from(&broker(4)) };
        let roster = Roster::new(founders().into_iter().chain([added]), []);
        assert_eq!(ids(&roster), [1, 2, 3, 4]);
        followed(&roster, &[found()]);
        assert_eq!(ids(&roster), [1, 2, 3]);
    }

    #[test]
    fn the_metadata_goes_before_hearsay() {
        let roster = Roster::new(founders(), []);
        followed(&roster, &[found(), Command::RegisterBroker(broker(2))]);
        roster.hear([KnownBroker { peer: "elsewhere:1".into(), ..KnownBroker::from(&broker(2)) }]);
        assert_eq!(roster.members().get(2).unwrap().peer, broker(2).peer);
        // It is tried all the same: it may have moved, and found nobody yet who writes that down.
        assert_eq!(roster.members().peer_addresses(2), [&broker(2).peer, "elsewhere:1"]);
        assert_eq!(roster.members().peer_addresses(1), [broker(1).peer]);
    }

    #[test]
    fn brokers_known_from_an_earlier_run_are_members_until_the_metadata_says_otherwise() {
        let four = KnownBroker::from(&broker(4));
        let roster = Roster::new(founders(), [four.clone(), KnownBroker::from(&broker(5))]);
        assert_eq!(ids(&roster), [1, 2, 3, 4, 5]);
        followed(&roster, &[found(), Command::RegisterBroker(broker(4)), Command::RegisterBroker(broker(5))]);
        assert_eq!(ids(&roster), [1, 2, 3, 4, 5]);
        followed(
            &roster,
            &[
                found(),
                Command::RegisterBroker(broker(4)),
                Command::RegisterBroker(broker(5)),
                Command::RemoveBroker { id: 4 },
            ],
        );
        assert_eq!(ids(&roster), [1, 2, 3, 5]);
    }

    #[test]
    fn where_the_configuration_and_an_earlier_run_disagree_both_addresses_are_tried() {
        let moved = KnownBroker { peer: "elsewhere:1".into(), ..KnownBroker::from(&broker(2)) };
        let roster = Roster::new(founders(), [moved]);
        assert_eq!(roster.members().peer_addresses(2), [&broker(2).peer, "elsewhere:1"]);
        assert_eq!(roster.members().check(2, DirectoryId([8; 16])), Ok(()));
    }
}
