//! This broker's place in the metadata: the cluster is founded, the broker registers, and notices when it is out.
//!
//! [`enrolment`] decides what is to be done.
//!
//! [`enrolment`]: super::enrolment

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::enrolment::{Next, Seen, is_taken_over};
use super::roster::KnownBroker;
use super::writer::CHANGE_TIMEOUT;
use super::{Cluster, Command, Inner, Member, MetadataError, MetadataState, Refusal};

/// How often something that is not done yet is tried.
const PAUSE: Duration = Duration::from_secs(1);
/// How often another broker is asked whether this one still is who it was: its own metadata may be fed no more.
const REASSURANCE: Duration = Duration::from_secs(5);

/// Founds and registers as needed, until this broker is out or the cluster is gone.
pub(super) async fn keep(cluster: Weak<Inner>, me: Member, joined_as: Option<KnownBroker>) {
    // Through here it had followed the metadata when it was seen to be registered.
    let mut registered_by: Option<u64> = None;
    let mut said = String::new();
    let mut asked_at = Instant::now();
    let mut attempts = 0;
    while let Some(inner) = cluster.upgrade() {
        let cluster = Cluster { inner };
        let mut news = cluster.inner.followed.clone();
        let mut view = cluster.inner.metadata.watch();
        let followed = news.borrow_and_update().clone();
        let leads = followed.current && view.borrow_and_update().is_leader;
        let is_there =
            followed.current && followed.state.member(me.id).is_some_and(|(known, _)| **known == me);
        registered_by = registered_by.or(is_there.then(|| followed.state.applied_lsn()));
        let registered = registered_by.is_some();
        let seen = Seen { state: &followed.state, me: &me, joined_as: joined_as.as_ref(), leads, registered };
        let done = match seen.next() {
            Next::Nothing => Ok(()),
            Next::Found => found(&cluster).await,
            Next::Register => {
                let submitted =
                    cluster.submit(vec![Command::RegisterBroker(me.clone())], CHANGE_TIMEOUT).await;
                registered_by = registered_by.or(submitted.as_ref().ok().map(|state| state.applied_lsn()));
                submitted
                    .map(|_| tracing::info!(broker = me.id, peer = me.peer, "registered with the cluster"))
            }
            Next::Leave(why) => return leave(&cluster, why).await,
        };
        let pause = if followed.current { REASSURANCE } else { PAUSE };
        match done {
            Ok(()) if asked_at.elapsed() < pause => {}
            Ok(()) => {
                asked_at = Instant::now();
                attempts += 1;
                if let Some(why) = hear(&cluster, &me, registered_by, attempts).await {
                    return leave(&cluster, why).await;
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

/// Asks another broker who belongs to the cluster; whether, and why, this one does not any more. `registered_by` is where the
/// metadata had it registered.
async fn hear(cluster: &Cluster, me: &Member, registered_by: Option<u64>, attempt: usize) -> Option<String> {
    let hearsay = cluster.ask_for_members(attempt).await?;
    let is_newer = registered_by.is_some_and(|lsn| hearsay.applied_lsn >= lsn);
    let told = hearsay.brokers.iter().find(|broker| is_newer && broker.id == me.id);
    if let Some(why) = told.and_then(|known| is_taken_over(me, known)) {
        return Some(why);
    }
    // Whoever follows the metadata knows better.
    if !cluster.is_current() {
        cluster.inner.roster.hear(hearsay.brokers);
        cluster.inner.replicas.know(&cluster.members(), false);
    }
    None
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
