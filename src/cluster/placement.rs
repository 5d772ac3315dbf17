//! Where a new topic's partitions go: a pure function from members to replica lists.

use super::{Command, MetadataState, Refusal, TopicSettings};

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; 0 for the broker's default.
    pub partitions: u32,
    /// Replicas per partition; 0 for the broker's default.
    pub replication: u32,
    /// Its settings.
    pub settings: TopicSettings,
}

/// What a new topic may be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRules {
    /// Nodes that may hold replicas, ascending.
    pub members: Vec<u64>,
    /// Most partitions of one topic.
    pub max_partitions: u32,
    /// Longest batch a topic may allow, in bytes.
    pub max_batch_bytes: u32,
    /// Partitions of a topic that does not say.
    pub default_partitions: u32,
    /// Replicas of a topic that does not say.
    pub default_replication: u32,
}

/// The smallest limit on batches that leaves room for one.
const MAX_BATCH_BYTES_MIN: u32 = 1024;

/// The command that creates the topic, if the rules and the state allow it.
///
/// # Errors
/// The first rule it breaks.
pub fn create_topic(topic: &NewTopic, rules: &TopicRules, state: &MetadataState) -> Result<Command, Refusal> {
    check_name(&topic.name)?;
    let partitions = if topic.partitions == 0 { rules.default_partitions } else { topic.partitions };
    if !(1..=rules.max_partitions).contains(&partitions) {
        return Err(Refusal::InvalidPartitions { asked: partitions, most: rules.max_partitions });
    }
    let replication = if topic.replication == 0 { rules.default_replication } else { topic.replication };
    let nodes = u32::try_from(rules.members.len()).unwrap_or(u32::MAX);
    if !(1..=nodes).contains(&replication) {
        return Err(Refusal::InvalidReplication { asked: replication, nodes });
    }
    check_settings(&topic.settings, rules)?;
    let command = Command::CreateTopic {
        name: topic.name.clone(),
        replicas: place(&rules.members, partitions, replication, state.next_shard()),
        settings: topic.settings.clone(),
    };
    state.check(&command)?;
    Ok(command)
}

/// The replicas of each partition, preferred leader first. Partition after partition (and topic after topic,
/// through `first_shard`) the list starts one node further, so leaders and replicas spread evenly.
pub fn place(members: &[u64], partitions: u32, replication: u32, first_shard: u64) -> Vec<Vec<u64>> {
    let replicas = |partition: u64| {
        let start = first_shard.wrapping_add(partition) as usize;
        (0..replication as usize).map(|step| members[start.wrapping_add(step) % members.len()]).collect()
    };
    (0..u64::from(partitions)).map(replicas).collect()
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let sound = (1..=249).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != "..";
    if sound { Ok(()) } else { Err(Refusal::InvalidName(name.chars().take(300).collect())) }
}

fn check_settings(settings: &TopicSettings, rules: &TopicRules) -> Result<(), Refusal> {
    let zero = |setting, value: Option<u64>| match value {
        Some(0) => {
            Err(Refusal::InvalidSetting { setting, value: 0, fix: "leave it out to keep everything".into() })
        }
        _ => Ok(()),
    };
    zero("retention_bytes", settings.retention_bytes)?;
    zero("retention_ms", settings.retention_ms)?;
    match settings.max_batch_bytes {
        Some(bytes) if !(MAX_BATCH_BYTES_MIN..=rules.max_batch_bytes).contains(&bytes) => {
            Err(Refusal::InvalidSetting {
                setting: "max_batch_bytes",
                value: bytes.into(),
                fix: format!("give it {MAX_BATCH_BYTES_MIN} to {}", rules.max_batch_bytes),
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> TopicRules {
        TopicRules {
            members: vec![1, 2, 3],
            max_partitions: 100,
            max_batch_bytes: 1 << 20,
            default_partitions: 1,
            default_replication: 3,
        }
    }

    #[test]
    fn replicas_are_distinct_and_first_leaders_spread_evenly() {
        let placed = place(&[1, 2, 3, 4], 8, 3, 1);
        for replicas in &placed {
            let mut sorted = replicas.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 3);
        }
        for node in 1..=4 {
            assert_eq!(placed.iter().filter(|replicas| replicas[0] == node).count(), 2);
            assert_eq!(placed.iter().flatten().filter(|replica| **replica == node).count(), 6);
        }
    }

    #[test]
    fn topics_of_one_partition_do_not_all_lead_on_the_same_node() {
        let leaders: Vec<u64> = (1..=3).map(|shard| place(&[1, 2, 3], 1, 3, shard)[0][0]).collect();
        let mut sorted = leaders.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3]);
    }

    #[test]
    fn defaults_fill_what_was_left_out() {
        let topic = NewTopic { name: "a".into(), ..NewTopic::default() };
        match create_topic(&topic, &rules(), &MetadataState::default()).unwrap() {
            Command::CreateTopic { replicas, .. } => {
                assert_eq!(replicas.len(), 1);
                assert_eq!(replicas[0].len(), 3);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_broken_rule_is_named() {
        let sound =
            NewTopic { name: "a".into(), partitions: 1, replication: 1, settings: TopicSettings::default() };
        let refused =
            |topic: NewTopic| create_topic(&topic, &rules(), &MetadataState::default()).unwrap_err();
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(matches!(
                refused(NewTopic { name: name.into(), ..sound.clone() }),
                Refusal::InvalidName(_)
            ));
        }
        let too_many = refused(NewTopic { partitions: 101, ..sound.clone() });
        assert_eq!(too_many, Refusal::InvalidPartitions { asked: 101, most: 100 });
        let too_many = refused(NewTopic { replication: 4, ..sound.clone() });
        assert_eq!(too_many, Refusal::InvalidReplication { asked: 4, nodes: 3 });
        let settings = TopicSettings { retention_ms: Some(0), ..TopicSettings::default() };
        assert!(matches!(
            refused(NewTopic { settings, ..sound.clone() }),
            Refusal::InvalidSetting { setting: "retention_ms", .. }
        ));
        let settings = TopicSettings { max_batch_bytes: Some(2 << 20), ..TopicSettings::default() };
        assert!(matches!(
            refused(NewTopic { settings, ..sound }),
            Refusal::InvalidSetting { setting: "max_batch_bytes", .. }
        ));
    }
}
