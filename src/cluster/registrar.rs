//! This broker's place in the metadata: the cluster is founded, the broker registers, and notices when it is out.
//!
//! What holds:
//! - Whoever leads the metadata first founds the cluster, with the voters that the metadata log began with: none can have
//!   changed before.
//! - A broker registers itself at its start, and again if its addresses or its rack changed meanwhile.
//! - One that was removed, or whose registration another process took over, takes no part any more, for good.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::roster::KnownBroker;
use super::writer::CHANGE_TIMEOUT;
use super::{Cluster, Command, Inner, Member, MetadataError, MetadataState, Refusal};

/// How often something that is not done yet is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// What this broker knows when it asks itself what to do.
struct Seen<'a> {
    state: &'a MetadataState,
    /// Itself.
    me: &'a Member,
    /// As what it joined, if the state does not say yet.
    joined_as: Option<&'a KnownBroker>,
    /// Whether it leads the metadata, and knows all of it.
    leads: bool,
    /// Whether it is known to have registered in this run.
    registered: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Found,
    Register,
    Leave(String),
}

impl Seen<'_> {
    fn next(&self) -> Next {
        let id = self.me.id;
        match self.state.member(id) {
            Some((known, _)) if **known == *self.me => Next::Nothing,
            Some((known, _)) if known.directory != self.me.directory => {
                Next::Leave(Refusal::BrokerTaken(id).to_string())
            }
            Some((known, _)) if self.registered => Next::Leave(format!(
                "another process runs as broker {id}, at {}, on a copy of this data directory; stop one of the two for \
                 good and delete its copy",
                known.peer
            )),
            Some(_) => Next::Register,
            None if self.state.awaits(id) => Next::Register,
            None if self.state.is_founded() && id < self.state.next_broker() => {
                Next::Leave(Refusal::BrokerRemoved(id).to_string())
            }
            // The state does not reach to its joining yet.
            None => match self.joined_as {
                Some(known) if !is_reached_at(known, self.me) => Next::Register,
                None if self.leads && !self.state.is_founded() => Next::Found,
                _ => Next::Nothing,
            },
        }
    }
}

fn is_reached_at(known: &KnownBroker, me: &Member) -> bool {
    (&known.native, &known.peer, &known.http, &known.rack) == (&me.native, &me.peer, &me.http, &me.rack)
}

/// Founds and registers as needed, until this broker is out or the cluster is gone.
pub(super) async fn keep(cluster: Weak<Inner>, me: Member, joined_as: Option<KnownBroker>) {
    let mut registered = false;
    let mut said = String::new();
    let mut asked_at = Instant::now();
    let mut attempts = 0;
    while let Some(inner) = cluster.upgrade() {
        let cluster = Cluster { inner };
        let mut news = cluster.inner.followed.clone();
        let mut view = cluster.inner.metadata.watch();
        let followed = news.borrow_and_update().clone();
        let leads = followed.current && view.borrow_and_update().is_leader;
        registered |=
            followed.current && followed.state.member(me.id).is_some_and(|(known, _)| **known == me);
        let seen = Seen { state: &followed.state, me: &me, joined_as: joined_as.as_ref(), leads, registered };
        let done = match seen.next() {
            Next::Nothing => Ok(()),
            Next::Found => found(&cluster).await,
            Next::Register => {
                let submitted =
                    cluster.submit(vec![Command::RegisterBroker(me.clone())], CHANGE_TIMEOUT).await;
                registered |= submitted.is_ok();
                submitted
                    .map(|_| tracing::info!(broker = me.id, peer = me.peer, "registered with the cluster"))
            }
            Next::Leave(why) => return leave(&cluster, why).await,
        };
        match done {
            Ok(()) if followed.current => {}
            Ok(()) => {
                if asked_at.elapsed() >= PAUSE {
                    asked_at = Instant::now();
                    attempts += 1;
                    cluster.ask_for_members(attempts).await;
                }
            }
            Err(MetadataError::Refused(
                why @ (Refusal::BrokerRemoved(_) | Refusal::BrokerTaken(_) | Refusal::DirectoryTaken(_)),
            )) => return leave(&cluster, why.to_string()).await,
            Err(error) => {
                // Once per reason: a majority may be away for days.
                let why = error.to_string();
                if why != said {
                    tracing::warn!(why, "this broker cannot register with the cluster yet; trying on");
                    said = why;
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        let mut expelled = cluster.inner.roster.expelled();
        let why = expelled.borrow_and_update().clone();
        if let Some(why) = why {
            return leave(&cluster, why).await;
        }
        drop(cluster);
        let pause = if followed.current { Duration::MAX } else { PAUSE };
        let changed = async {
            tokio::select! {
                changed = news.changed() => changed.is_ok(),
                changed = view.changed() => changed.is_ok(),
                changed = expelled.changed() => changed.is_ok(),
            }
        };
        if let Ok(false) = timeout(pause, changed).await {
            return;
        }
    }
}

/// Begins the cluster with the voters that the metadata log has: what it began with, as nothing moves before.
async fn found(cluster: &Cluster) -> Result<(), MetadataError> {
    let Some(metadata) = cluster.inner.metadata.describe().await else { return Ok(()) };
    let replicas = metadata.voters;
    let deadline = Instant::now() + CHANGE_TIMEOUT;
    let decide = |state: &MetadataState| match state.is_founded() {
        true => Ok(Vec::new()),
        false => Ok(vec![Command::FoundCluster { replicas: replicas.clone() }]),
    };
    cluster.change(deadline, decide).await.map(|_| tracing::info!(?replicas, "founded the cluster"))
}

/// Takes no part any more: every replica here stops.
async fn leave(cluster: &Cluster, why: String) {
    cluster.inner.roster.expel(why);
    cluster.inner.engine.shutdown().await;
}

/// Who this broker is, as the metadata is to have it.
pub(super) fn myself(config: &crate::config::Config, identity: &crate::identity::Identity) -> Member {
    let own = config.own_addresses();
    Member {
        id: identity.node,
        directory: identity.directory,
        native: own.native,
        peer: own.peer,
        http: own.http,
        rack: config.rack.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DirectoryId;

    fn broker(id: u64) -> Member {
        let at = |port: u64| format!("127.0.0.1:{}", 7000 + 10 * id + port);
        let directory = DirectoryId([id as u8; 16]);
        Member { id, directory, native: at(0), peer: at(1), http: at(2), rack: None }
    }

    fn state(commands: &[Command]) -> MetadataState {
        let mut state = MetadataState::default();
        commands.iter().for_each(|command| state.apply(command).unwrap());
        state
    }

    fn found() -> Command {
        Command::FoundCluster { replicas: vec![1, 2, 3] }
    }

    fn seen<'a>(state: &'a MetadataState, me: &'a Member) -> Seen<'a> {
        Seen { state, me, joined_as: None, leads: false, registered: false }
    }

    #[test]
    fn the_first_leader_founds_and_the_founders_register() {
        let (blank, founded) = (state(&[]), state(&[found()]));
        assert_eq!(seen(&blank, &broker(2)).next(), Next::Nothing);
        assert_eq!(Seen { leads: true, ..seen(&blank, &broker(2)) }.next(), Next::Found);
        assert_eq!(seen(&founded, &broker(2)).next(), Next::Register);
        let registered = state(&[found(), Command::RegisterBroker(broker(2))]);
        assert_eq!(seen(&registered, &broker(2)).next(), Next::Nothing);
    }

    #[test]
    fn new_addresses_are_registered_once_and_those_of_a_copy_end_the_older_process() {
        let registered = state(&[found(), Command::RegisterBroker(broker(2))]);
        let moved = Member { peer: "elsewhere:1".into(), ..broker(2) };
        assert_eq!(seen(&registered, &moved).next(), Next::Register);
        let taken_over = Seen { registered: true, ..seen(&registered, &moved) };
        assert!(matches!(taken_over.next(), Next::Leave(why) if why.contains("127.0.0.1:7021")));
    }

    #[test]
    fn a_broker_that_is_unknown_waits_if_it_is_too_new_and_leaves_if_it_was_removed() {
        let founded = state(&[found()]);
        let four = broker(4);
        let joined_as = KnownBroker::from(&four);
        let waiting = Seen { joined_as: Some(&joined_as), ..seen(&founded, &four) };
        assert_eq!(waiting.next(), Next::Nothing);
        let moved = Member { peer: "elsewhere:1".into(), ..four.clone() };
        assert_eq!(Seen { me: &moved, ..waiting }.next(), Next::Register);
        let removed =
            state(&[found(), Command::RegisterBroker(four.clone()), Command::RemoveBroker { id: 4 }]);
        assert!(matches!(seen(&removed, &four).next(), Next::Leave(why) if why.contains("removed")));
    }

    #[test]
    fn another_directory_under_the_same_id_is_no_member() {
        let registered = state(&[found(), Command::RegisterBroker(broker(2))]);
        let emptied = Member { directory: DirectoryId([9; 16]), ..broker(2) };
        assert!(matches!(seen(&registered, &emptied).next(), Next::Leave(_)));
    }
}
