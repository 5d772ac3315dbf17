//! Topics that are made or changed: what is allowed, and the command that does it. Pure functions of the state.

use super::command::Command;
use super::refusal::Refusal;
use super::spread::{Site, Spread};
use super::state::MetadataState;
use super::topic::{Topic, TopicSettings};

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
    /// The brokers that the configuration names.
    pub founders: Vec<u64>,
    /// Most partitions of one topic.
    pub max_partitions: u32,
    /// Longest batch a topic may allow, in bytes.
    pub max_batch_bytes: u32,
    /// Partitions of a topic that does not say.
    pub default_partitions: u32,
    /// Replicas of a topic that does not say; 0 for three, or all brokers if there are fewer.
    pub default_replication: u32,
}

/// What shall become of a topic; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// How many partitions it shall have in all.
    pub partitions: Option<u32>,
    /// What shall become of its settings.
    pub settings: SettingsChange,
}

/// What shall become of a topic's settings: `None` leaves one as it is, `Some(None)` gives it back its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// Bytes to keep per partition.
    pub retention_bytes: Option<Option<u64>>,
    /// Milliseconds to keep a record for.
    pub retention_ms: Option<Option<u64>>,
    /// Longest batch in bytes.
    pub max_batch_bytes: Option<Option<u32>>,
    /// Whether the walk over each record is skipped.
    pub trust_producers: Option<bool>,
}

impl SettingsChange {
    /// The settings as changed.
    pub fn apply(&self, before: &TopicSettings) -> TopicSettings {
        TopicSettings {
            retention_bytes: self.retention_bytes.unwrap_or(before.retention_bytes),
            retention_ms: self.retention_ms.unwrap_or(before.retention_ms),
            max_batch_bytes: self.max_batch_bytes.unwrap_or(before.max_batch_bytes),
            trust_producers: self.trust_producers.unwrap_or(before.trust_producers),
        }
    }
}

/// Copies that survive the loss of any one broker while the rest goes on.
const DEFAULT_REPLICATION: u32 = 3;

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
    check_settings(&topic.settings, rules)?;
    let command = Command::CreateTopic {
        name: topic.name.clone(),
        replicas: place(partitions, topic.replication, rules, state)?,
        settings: topic.settings.clone(),
    };
    state.check(&command)?;
    Ok(command)
}

/// The commands that change a topic; none if it is so already.
///
/// # Errors
/// The first rule it breaks.
pub fn alter_topic(
    name: &str,
    change: &TopicChange,
    rules: &TopicRules,
    state: &MetadataState,
) -> Result<Vec<Command>, Refusal> {
    let topic = state.topic(name).ok_or_else(|| Refusal::UnknownTopic(name.to_owned()))?;
    let settings = change.settings.apply(&topic.settings);
    check_settings(&settings, rules)?;
    let mut commands = Vec::new();
    if settings != topic.settings {
        commands.push(Command::AlterTopic { id: topic.id, settings });
    }
    if let Some(partitions) = change.partitions {
        commands.extend(add_partitions(topic, partitions, rules, state)?);
    }
    Ok(commands)
}

/// The command that gives a topic `partitions` partitions in all, each new one with as many replicas as its first.
fn add_partitions(
    topic: &Topic,
    partitions: u32,
    rules: &TopicRules,
    state: &MetadataState,
) -> Result<Option<Command>, Refusal> {
    let now = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if partitions == now {
        return Ok(None);
    }
    if partitions < now {
        return Err(Refusal::FewerPartitions { topic: topic.name.clone(), now, asked: partitions });
    }
    if partitions > rules.max_partitions {
        return Err(Refusal::InvalidPartitions { asked: partitions, most: rules.max_partitions });
    }
    let replication = topic.partitions.first().map_or(0, |first| first.goal().len());
    let replication = u32::try_from(replication).unwrap_or(u32::MAX);
    let replicas = place(partitions - now, replication, rules, state)?;
    let command = Command::AddPartitions { id: topic.id, replicas };
    state.check(&command)?;
    Ok(Some(command))
}

fn place(
    partitions: u32,
    replication: u32,
    rules: &TopicRules,
    state: &MetadataState,
) -> Result<Vec<Vec<u64>>, Refusal> {
    // Until the cluster is founded, the configuration says who is in it.
    let mut spread = match state.is_founded() {
        false => Spread::over(rules.founders.iter().map(|broker| Site { broker: *broker, rack: None })),
        true => Spread::of(state),
    };
    let brokers = u32::try_from(spread.sites()).unwrap_or(u32::MAX);
    let replication = match replication {
        0 if rules.default_replication == 0 => brokers.min(DEFAULT_REPLICATION),
        0 => rules.default_replication,
        asked => asked,
    };
    if !(1..=brokers).contains(&replication) {
        return Err(Refusal::InvalidReplication { asked: replication, brokers });
    }
    Ok(spread.place(partitions, replication, state.next_shard()))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let sound = (1..=249).contains(&name.len()) && name.bytes().all(allowed) && name != "." && name != "..";
    if sound { Ok(()) } else { Err(Refusal::InvalidName(name.chars().take(300).collect())) }
}

fn check_settings(settings: &TopicSettings, rules: &TopicRules) -> Result<(), Refusal> {
    let zero = |setting: &'static str, value: Option<u64>| match value {
        Some(0) => Err(Refusal::InvalidSetting {
            setting: setting.into(),
            value: 0,
            fix: "leave it out to keep everything".into(),
        }),
        _ => Ok(()),
    };
    zero("retention_bytes", settings.retention_bytes)?;
    zero("retention_ms", settings.retention_ms)?;
    match settings.max_batch_bytes {
        Some(bytes) if !(MAX_BATCH_BYTES_MIN..=rules.max_batch_bytes).contains(&bytes) => {
            Err(Refusal::InvalidSetting {
                setting: "max_batch_bytes".into(),
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
            founders: vec![1, 2, 3],
            max_partitions: 100,
            max_batch_bytes: 1 << 20,
            default_partitions: 1,
            default_replication: 3,
        }
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
        assert_eq!(too_many, Refusal::InvalidReplication { asked: 4, brokers: 3 });
        let settings = TopicSettings { retention_ms: Some(0), ..TopicSettings::default() };
        let names = |refusal, expected: &str| match refusal {
            Refusal::InvalidSetting { setting, .. } => assert_eq!(setting, expected),
            other => panic!("{other:?}"),
        };
        names(refused(NewTopic { settings, ..sound.clone() }), "retention_ms");
        let settings = TopicSettings { max_batch_bytes: Some(2 << 20), ..TopicSettings::default() };
        names(refused(NewTopic { settings, ..sound }), "max_batch_bytes");
    }

    fn with_topic(partitions: u32) -> MetadataState {
        let mut state = MetadataState::default();
        let topic = NewTopic { name: "a".into(), partitions, replication: 2, ..NewTopic::default() };
        let command = create_topic(&topic, &rules(), &state).unwrap();
        state.apply(&command).unwrap();
        state
    }

    fn to_partitions(count: u32) -> TopicChange {
        TopicChange { partitions: Some(count), ..TopicChange::default() }
    }

    #[test]
    fn partitions_are_added_never_taken_away() {
        let state = with_topic(3);
        let altered = |count| alter_topic("a", &to_partitions(count), &rules(), &state);
        match altered(5).unwrap().as_slice() {
            [Command::AddPartitions { replicas, .. }] => {
                assert_eq!(replicas.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(altered(3), Ok(Vec::new()), "so it is already");
        for asked in [0, 2] {
            let refused = Refusal::FewerPartitions { topic: "a".into(), now: 3, asked };
            assert_eq!(altered(asked), Err(refused));
        }
        assert_eq!(altered(101), Err(Refusal::InvalidPartitions { asked: 101, most: 100 }));
        let missing = alter_topic("b", &to_partitions(9), &rules(), &state);
        assert_eq!(missing, Err(Refusal::UnknownTopic("b".into())));
    }

    #[test]
    fn a_setting_that_is_not_named_stays_as_it_is() {
        let mut state = with_topic(1);
        let of = |settings| TopicChange { partitions: None, settings };
        for (change, expected) in [
            (SettingsChange { retention_ms: Some(Some(9)), ..Default::default() }, (None, Some(9))),
            (SettingsChange { retention_bytes: Some(Some(7)), ..Default::default() }, (Some(7), Some(9))),
            (SettingsChange { retention_ms: Some(None), ..Default::default() }, (Some(7), None)),
        ] {
            for command in alter_topic("a", &of(change), &rules(), &state).unwrap() {
                state.apply(&command).unwrap();
            }
            let settings = &state.topic("a").unwrap().settings;
            assert_eq!((settings.retention_bytes, settings.retention_ms), expected);
        }
        let nothing = SettingsChange { retention_ms: Some(Some(0)), ..Default::default() };
        assert!(alter_topic("a", &of(nothing), &rules(), &state).is_err());
    }
}
