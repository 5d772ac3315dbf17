//! A partition as all its replicas see it: this broker's own state, and what the other brokers answer.

use super::control::{AdminError, Control};
use super::remote;
use super::views::{PartitionView, ReplicaState, ReplicaView, TopicPartition};

/// Asks every replica of the partition at once; one that does not answer in time is shown as such.
pub(super) async fn describe<C: Control>(
    control: &C,
    topic: &str,
    partition: u32,
) -> Result<PartitionView, AdminError> {
    let view = control.topic(topic).await?;
    let Some(placed) = view.partitions.into_iter().find(|placed| placed.partition == partition) else {
        return Err(AdminError::UnknownPartition { topic: topic.to_owned(), partition });
    };
    let brokers = control.brokers();
    let own = control.config().node;
    let path = format!("/v1/topics/{topic}/partitions/{partition}/replica");
    let mut questions = tokio::task::JoinSet::new();
    for broker in placed.replicas.iter().copied().filter(|broker| *broker != own) {
        let address = brokers.iter().find(|known| known.id == broker).map(|known| known.http.clone());
        let path = path.clone();
        questions.spawn(async move {
            let state = match address {
                Some(address) => remote::get::<ReplicaState>(&address, &path).await,
                None => Err("its address is not in the configuration".to_owned()),
            };
            (broker, state)
        });
    }
    let mut answers = Vec::with_capacity(placed.replicas.len());
    if placed.replicas.contains(&own) {
        answers.push((own, control.replica(topic, partition).await.map_err(|error| error.to_string())));
    }
    while let Some(Ok(answer)) = questions.join_next().await {
        answers.push(answer);
    }
    answers.sort_by_key(|(broker, _)| *broker);
    Ok(combine(topic, &placed, answers))
}

/// The leader of the greatest term knows how far the others are; without one, the last index seen anywhere counts.
fn combine(
    topic: &str,
    placed: &TopicPartition,
    answers: Vec<(u64, Result<ReplicaState, String>)>,
) -> PartitionView {
    let states = || answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let leader = states().filter(|state| state.role == "leader").max_by_key(|state| state.term).cloned();
    let last_index = states().map(|state| state.last_index).max();
    let term = states().map(|state| state.term).max().unwrap_or(placed.term);
    let lag = |broker: u64, state: Option<&ReplicaState>| match &leader {
        Some(leader) if leader.broker == broker => Some(0),
        Some(leader) => {
            leader.progress.iter().find(|known| known.broker == broker).map(|known| known.lag_entries)
        }
        None => Some(last_index?.saturating_sub(state?.last_index)),
    };
    let replicas = answers
        .iter()
        .map(|(broker, answer)| ReplicaView {
            broker: *broker,
            lag_entries: lag(*broker, answer.as_ref().ok()),
            state: answer.as_ref().ok().cloned(),
            unreachable: answer.as_ref().err().cloned(),
        })
        .collect();
    PartitionView {
        topic: topic.to_owned(),
        partition: placed.partition,
        shard: placed.shard,
        leader: leader.as_ref().map_or(placed.leader, |leader| Some(leader.broker)),
        term,
        replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::replica_state;
    use super::super::views::ReplicaProgressView;
    use super::*;

    fn placed() -> TopicPartition {
        TopicPartition {
            partition: 0,
            shard: 1,
            replicas: vec![1, 2, 3],
            moving_to: None,
            leader: Some(1),
            term: 3,
        }
    }

    #[test]
    fn a_deposed_leader_that_does_not_know_it_yet_is_not_shown_as_leader() {
        let mut old = replica_state(1, "leader");
        old.term = 3;
        let mut new = replica_state(2, "leader");
        new.term = 4;
        let view = combine("orders", &placed(), vec![(1, Ok(old)), (2, Ok(new))]);
        assert_eq!((view.leader, view.term), (Some(2), 4));
    }

    #[test]
    fn a_replica_that_is_away_shows_the_lag_its_leader_knows() {
        let mut leader = replica_state(1, "leader");
        leader.progress.push(ReplicaProgressView {
            broker: 3,
            matched_index: 4,
            next_index: 5,
            lag_entries: 6,
            state: "probe".into(),
            recently_active: false,
        });
        let view = combine("orders", &placed(), vec![(1, Ok(leader)), (3, Err("no answer".into()))]);
        assert_eq!(view.replicas[1].lag_entries, Some(6));
        assert_eq!(view.replicas[1].unreachable.as_deref(), Some("no answer"));
    }

    #[test]
    fn without_a_leader_lag_is_counted_from_the_longest_log() {
        let (mut longer, mut shorter) = (replica_state(1, "follower"), replica_state(2, "follower"));
        (longer.last_index, shorter.last_index) = (9, 4);
        let view = combine("orders", &placed(), vec![(1, Ok(longer)), (2, Ok(shorter))]);
        assert_eq!([view.replicas[0].lag_entries, view.replicas[1].lag_entries], [Some(0), Some(5)]);
    }
}
