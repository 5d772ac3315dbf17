//! Brokers that come and go: what the metadata's leader decides when one joins or is removed.

use std::time::Duration;

use tokio::time::Instant;

use super::roster::KnownBroker;
use super::{Cluster, Command, Duty, Member, MetadataError, MetadataState, Refusal};
use crate::engine::METADATA_SHARD;
use crate::identity::DirectoryId;

/// How long a broker's joining or removal may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A broker that wants to be one of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its data directory.
    pub directory: DirectoryId,
    /// Where clients will reach it, as `host:port`.
    pub native: String,
    /// Where other brokers will reach it.
    pub peer: String,
    /// Where its admin API will be.
    pub http: String,
    /// What fails together with it.
    pub rack: Option<String>,
}

/// What a broker that has joined needs to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub id: u64,
    /// The voters that each copy of the metadata log begins with.
    pub founders: Vec<u64>,
}

/// A broker, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStatus {
    /// Who it is.
    pub broker: KnownBroker,
    /// Partitions it holds a replica of, or is to hold one.
    pub replicas: usize,
    /// Whether it is, or is to be, one of the metadata's voters.
    pub metadata: bool,
}

impl Cluster {
    /// Makes a broker a member; the same directory always gets the same id.
    ///
    /// # Errors
    /// This broker does not lead the metadata, or the newcomer cannot be told from another broker.
    pub async fn join(&self, newcomer: &Newcomer) -> Result<Joined, MetadataError> {
        let (_, state) = self.change(Instant::now() + TIMEOUT, |state| join(newcomer, state)).await?;
        newcomer.joined(&state).ok_or(MetadataError::OutcomeUnknown)
    }

    /// Removes a broker that holds nothing, for good.
    ///
    /// # Errors
    /// This broker does not lead the metadata, there is no such broker, or it still holds replicas.
    pub async fn remove_broker(&self, id: u64) -> Result<(), MetadataError> {
        self.change(Instant::now() + TIMEOUT, |state| remove(id, state)).await.map(|_| ())
    }

    /// All brokers, by id, and what each holds; founders that were given up too, while they are to hold something.
    pub fn brokers(&self) -> Vec<BrokerStatus> {
        let state = self.state();
        let heard = |id| self.inner.roster.heard_of(id);
        let given_up = state.given_up().filter_map(heard);
        let given_up = given_up.map(|broker| KnownBroker { duty: Duty::Draining, ..broker });
        let status = |broker: &KnownBroker| BrokerStatus {
            replicas: state.replicas_of(broker.id),
            metadata: state
                .placement(METADATA_SHARD)
                .is_some_and(|metadata| metadata.hosts().any(|host| host == broker.id)),
            broker: broker.clone(),
        };
        let mut brokers: Vec<_> = self.members().iter().map(status).collect();
        brokers.extend(given_up.map(|broker| status(&broker)));
        brokers.sort_by_key(|status| status.broker.id);
        brokers
    }
}

impl Newcomer {
    /// As what it is a member in this state, if it is one.
    pub fn joined(&self, state: &MetadataState) -> Option<Joined> {
        let (member, _) = state.members().find(|(member, _)| member.directory == self.directory)?;
        Some(Joined { id: member.id, founders: state.founders().to_vec() })
    }
}

/// The commands by which a newcomer becomes a member; none if it is one.
///
/// # Errors
/// The cluster is not founded, or the newcomer cannot be reached or told from another broker.
pub fn join(newcomer: &Newcomer, state: &MetadataState) -> Result<Vec<Command>, Refusal> {
    let member = admit(newcomer, state)?;
    let is_known = state.member(member.id).is_some_and(|(known, _)| **known == member);
    Ok(if is_known { Vec::new() } else { vec![Command::RegisterBroker(member)] })
}

/// The commands by which a broker that holds nothing is gone for good.
///
/// # Errors
/// There is no such broker, or it still holds replicas.
pub fn remove(id: u64, state: &MetadataState) -> Result<Vec<Command>, Refusal> {
    let command = Command::RemoveBroker { id };
    state.check(&command).map(|()| vec![command])
}

/// The member that a newcomer becomes; the one it is already, if its directory is known.
fn admit(newcomer: &Newcomer, state: &MetadataState) -> Result<Member, Refusal> {
    if !state.is_founded() {
        return Err(Refusal::NotFounded);
    }
    for (setting, address) in
        [("native", &newcomer.native), ("peer", &newcomer.peer), ("http", &newcomer.http)]
    {
        if !crate::config::is_address(address) {
            return Err(Refusal::InvalidAddress { setting: setting.into(), address: address.clone() });
        }
    }
    let of_directory = state.members().find(|(member, _)| member.directory == newcomer.directory);
    let id = of_directory.map_or(state.next_broker(), |(member, _)| member.id);
    let others = || state.members().filter(|(member, _)| member.id != id);
    for address in [&newcomer.native, &newcomer.peer, &newcomer.http] {
        let has_it = |other: &Member| [&other.native, &other.peer, &other.http].contains(&address);
        if let Some((other, _)) = others().find(|(other, _)| has_it(other)) {
            return Err(Refusal::AddressTaken { broker: other.id, address: address.clone() });
        }
    }
    Ok(Member {
        id,
        directory: newcomer.directory,
        native: newcomer.native.clone(),
        peer: newcomer.peer.clone(),
        http: newcomer.http.clone(),
        rack: newcomer.rack.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newcomer(directory: u8, port: u16) -> Newcomer {
        let at = |offset: u16| format!("10.0.0.9:{}", port + offset);
        let directory = DirectoryId([directory; 16]);
        Newcomer { directory, native: at(0), peer: at(1), http: at(2), rack: Some("b".into()) }
    }

    fn founded() -> MetadataState {
        let mut state = MetadataState::default();
        state.apply(&Command::FoundCluster { replicas: vec![1, 2, 3] }).unwrap();
        state
    }

    #[test]
    fn a_newcomer_gets_the_next_id_and_whoever_asks_again_the_same() {
        let mut state = founded();
        let first = admit(&newcomer(7, 7400), &state).unwrap();
        assert_eq!((first.id, first.rack.as_deref()), (4, Some("b")));
        state.apply(&Command::RegisterBroker(first.clone())).unwrap();
        assert_eq!(admit(&newcomer(7, 7400), &state).unwrap(), first);
        assert_eq!(admit(&newcomer(7, 9000), &state).unwrap().id, 4, "at other addresses too");
        assert_eq!(admit(&newcomer(8, 9000), &state).unwrap().id, 5);
    }

    #[test]
    fn a_newcomer_that_cannot_be_reached_or_told_apart_is_refused() {
        let mut state = founded();
        state.apply(&Command::RegisterBroker(admit(&newcomer(7, 7400), &state).unwrap())).unwrap();
        // Broker 4 has 7400, 7401 and 7402; whichever of another's it is.
        for (port, met) in [(7398, 7400), (7400, 7400), (7402, 7402)] {
            let taken = Refusal::AddressTaken { broker: 4, address: format!("10.0.0.9:{met}") };
            assert_eq!(admit(&newcomer(8, port), &state), Err(taken));
        }
        for address in ["", "nowhere", "host:", ":7400", "host:70000", "host:0"] {
            let lost = Newcomer { peer: address.into(), ..newcomer(8, 9000) };
            assert!(matches!(admit(&lost, &state), Err(Refusal::InvalidAddress { .. })), "{address}");
        }
        assert_eq!(admit(&newcomer(8, 9000), &MetadataState::default()), Err(Refusal::NotFounded));
    }
}
