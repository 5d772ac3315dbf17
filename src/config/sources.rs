//! Where settings come from: flags over environment over file over defaults.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, ConfigError, ServeFlags};

/// What an environment variable must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    /// Separated by commas.
    List,
}

/// Every setting that can stand alone in a variable; the member list is for the file only.
const SETTINGS: &[(&str, Kind)] = &[
    ("node", Kind::Number),
    ("data", Kind::Text),
    ("cluster", Kind::Text),
    ("bootstrap", Kind::Flag),
    ("join", Kind::List),
    ("rack", Kind::Text),
    ("workers", Kind::Number),
    ("listen.native", Kind::Text),
    ("listen.peer", Kind::Text),
    ("listen.http", Kind::Text),
    ("advertise.native", Kind::Text),
    ("advertise.peer", Kind::Text),
    ("advertise.http", Kind::Text),
    ("limits.max_frame_bytes", Kind::Number),
    ("limits.max_batch_bytes", Kind::Number),
    ("limits.max_record_bytes", Kind::Number),
    ("limits.inflight_bytes", Kind::Number),
    ("limits.read_bytes", Kind::Number),
    ("limits.max_connections", Kind::Number),
    ("limits.max_partitions", Kind::Number),
    ("storage.segment_bytes", Kind::Number),
    ("storage.cache_bytes", Kind::Number),
    ("storage.spare_segments", Kind::Number),
    ("storage.free_space_reserve_bytes", Kind::Number),
    ("storage.scrub_bytes_per_second", Kind::Number),
    ("storage.move_bytes_per_second", Kind::Number),
    ("raft.tick_ms", Kind::Number),
    ("raft.election_ticks", Kind::Number),
    ("raft.heartbeat_ticks", Kind::Number),
    ("topics.create_missing", Kind::Flag),
    ("topics.partitions", Kind::Number),
    ("topics.replication", Kind::Number),
    ("retention.bytes", Kind::Number),
    ("retention.ms", Kind::Number),
    ("log.format", Kind::Text),
    ("log.filter", Kind::Text),
];

/// Every setting's path in the file, and the environment variable that overrides it.
pub fn settings() -> impl Iterator<Item = (&'static str, String)> {
    SETTINGS.iter().map(|(path, _)| (*path, variable(path)))
}

fn variable(path: &str) -> String {
    format!("LOCKSTEP_{}", path.replace('.', "_").to_uppercase())
}

impl Config {
    /// The configuration that flags, the given environment and the file they name amount to, validated.
    ///
    /// # Errors
    /// The file cannot be read, a source is malformed, or [`Config::validate`] refuses the result.
    pub fn load(
        flags: &ServeFlags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut merged = match &flags.config {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        merge(&mut merged, environment_table(environment)?);
        merge(&mut merged, flags.table());
        let config: Config =
            merged.try_into().map_err(|error: toml::de::Error| malformed("configuration", &error))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration in a TOML text alone, validated.
    ///
    /// # Errors
    /// The text is malformed, or [`Config::validate`] refuses it.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let config: Config = toml::from_str(text).map_err(|error| malformed("configuration", &error))?;
        config.validate()?;
        Ok(config)
    }
}

fn malformed(origin: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Malformed { origin: origin.to_owned(), message: error.to_string().trim_end().to_owned() }
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    // Parsed as a whole `Config` first: that error knows the line, the merged table's would not.
    toml::from_str::<Config>(&text).map_err(|error| malformed(&path.display().to_string(), &error))?;
    toml::from_str(&text).map_err(|error| malformed(&path.display().to_string(), &error))
}

fn environment_table(environment: impl IntoIterator<Item = (String, String)>) -> Result<Table, ConfigError> {
    let mut table = Table::new();
    for (name, text) in environment {
        let Some((path, kind)) = SETTINGS.iter().find(|(path, _)| variable(path) == name) else { continue };
        let refuse = |expected| ConfigError::Variable { name: name.clone(), value: text.clone(), expected };
        let value = match kind {
            Kind::Text => Value::String(text.clone()),
            Kind::Number => Value::Integer(text.parse().map_err(|_| refuse("a whole number"))?),
            Kind::List => list(&text),
            Kind::Flag => Value::Boolean(text.parse().map_err(|_| refuse("true or false"))?),
        };
        insert(&mut table, path, value);
    }
    Ok(table)
}

/// What stands between commas.
pub(super) fn list(text: &str) -> Value {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
}

fn insert(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = entry {
                insert(inner, rest, value);
            }
        }
    }
}

/// Lays `over` on `base`: sections are merged, everything else is replaced.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => merge(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str) -> (tempfile::NamedTempFile, ServeFlags) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let flags = ServeFlags { config: Some(file.path().to_owned()), ..ServeFlags::default() };
        (file, flags)
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn a_port_base_gives_three_ports_of_its_own_over_those_of_the_file() {
        let (_file, mut flags) = with_file("[listen]\nnative = '0.0.0.0:7400'\nhttp = '0.0.0.0:7402'");
        flags.port_base = Some(7430);
        let listen = Config::load(&flags, []).unwrap().listen;
        assert_eq!(
            [listen.native, listen.peer, listen.http],
            ["127.0.0.1:7430", "127.0.0.1:7431", "127.0.0.1:7432"]
        );
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let (_file, mut flags) =
            with_file("data = 'file'\nworkers = 3\n[raft]\ntick_ms = 7\nelection_ticks = 90\n");
        flags.data = Some("flag".into());
        let environment = variables(&[("LOCKSTEP_DATA", "variable"), ("LOCKSTEP_RAFT_TICK_MS", "9")]);
        let config = Config::load(&flags, environment).unwrap();
        assert_eq!(config.data, std::path::PathBuf::from("flag"));
        assert_eq!(config.raft.tick_ms, 9);
        assert_eq!(config.raft.election_ticks, 90);
        assert_eq!(config.workers, 3);
        assert_eq!(config.raft.heartbeat_ticks, Config::default().raft.heartbeat_ticks);
    }

    #[test]
    fn the_effective_configuration_reads_back_as_itself() {
        let mut config = Config { node: 2, ..Config::default() };
        config.retention.ms = Some(5);
        config.nodes = (1..=3)
            .map(|id| crate::config::Node {
                id,
                native: format!("h{id}:1"),
                peer: format!("h{id}:2"),
                http: format!("h{id}:3"),
            })
            .collect();
        assert_eq!(Config::from_toml(&config.effective()).unwrap(), config);
    }

    #[test]
    fn every_setting_has_a_variable() {
        let mut full = Config {
            cluster: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
            rack: Some("r1".into()),
            join: vec!["a:1".into()],
            ..Config::default()
        };
        full.advertise = crate::config::Advertise {
            native: Some("a:1".into()),
            peer: Some("a:2".into()),
            http: Some("a:3".into()),
        };
        full.retention = crate::config::Retention { bytes: Some(1), ms: Some(1) };
        let table: Table = toml::from_str(&full.effective()).unwrap();
        let mut paths = Vec::new();
        for (key, value) in &table {
            match value {
                Value::Table(inner) => paths.extend(inner.keys().map(|name| format!("{key}.{name}"))),
                Value::Array(_) if key == "nodes" => {}
                _ => paths.push(key.clone()),
            }
        }
        let mut listed: Vec<String> = settings().map(|(path, _)| path.to_owned()).collect();
        paths.sort();
        listed.sort();
        assert_eq!(paths, listed);
    }

    #[test]
    fn brokers_to_join_stand_between_commas() {
        let environment = variables(&[("LOCKSTEP_JOIN", "a:1, b:2,")]);
        let config = Config::load(&ServeFlags::default(), environment).unwrap();
        assert_eq!(config.join, ["a:1", "b:2"]);
        let flags = ServeFlags { join: Some("c:3".into()), ..ServeFlags::default() };
        let environment = variables(&[("LOCKSTEP_JOIN", "a:1")]);
        assert_eq!(Config::load(&flags, environment).unwrap().join, ["c:3"]);
    }

    #[test]
    fn an_unknown_setting_is_refused_with_its_line() {
        let (_file, flags) = with_file("node = 1\n[limits]\nmax_batch_byte = 5\n");
        let error = Config::load(&flags, []).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("max_batch_byte"), "{error}");
    }

    #[test]
    fn a_variable_of_the_wrong_type_is_named() {
        let environment = variables(&[("LOCKSTEP_LIMITS_MAX_BATCH_BYTES", "many")]);
        let error = Config::load(&ServeFlags::default(), environment).unwrap_err().to_string();
        assert!(
            error.contains("LOCKSTEP_LIMITS_MAX_BATCH_BYTES") && error.contains("whole number"),
            "{error}"
        );
    }

    #[test]
    fn a_contradiction_names_the_setting_and_the_fix() {
        let cases = [
            ("node = 2\n[[nodes]]\nid = 0\nnative = 'a:1'\npeer = 'a:2'\nhttp = 'a:3'", "nodes"),
            ("[[nodes]]\nid = 1\nnative = 'a:1'\npeer = 'a:2'\nhttp = 'a:3'", "node"),
            ("join = ['nowhere']", "join"),
            ("join = ['a:1']\nbootstrap = true", "join"),
            (
                "node = 1\njoin = ['a:1']\n[[nodes]]\nid = 1\nnative = 'a:1'\npeer = 'a:2'\nhttp = 'a:3'",
                "join",
            ),
            ("node = 4\n[[nodes]]\nid = 1\nnative = 'a:1'\npeer = 'a:2'\nhttp = 'a:3'", "nodes"),
            ("[limits]\nmax_batch_bytes = 60000000\nmax_frame_bytes = 70000000", "limits.max_batch_bytes"),
            ("[limits]\nmax_frame_bytes = 100", "limits.max_frame_bytes"),
            ("[raft]\nelection_ticks = 2", "raft.election_ticks"),
            ("[listen]\nnative = 'nowhere'", "listen"),
            ("[topics]\nreplication = 2000", "topics.replication"),
        ];
        for (text, expected) in cases {
            match Config::from_toml(text).unwrap_err() {
                ConfigError::Invalid { setting, fix, .. } => {
                    assert_eq!(setting, expected);
                    assert!(!fix.is_empty());
                }
                other => panic!("{text}: {other}"),
            }
        }
    }

    #[test]
    fn an_advertised_address_wins_over_the_member_list_over_the_listener() {
        let mut config = Config { node: 1, ..Config::default() };
        config.listen.native = "0.0.0.0:9".into();
        assert_eq!(config.members()[0].native, "127.0.0.1:9");
        let member = |id| crate::config::Node {
            id,
            native: format!("listed-{id}:1"),
            peer: format!("listed-{id}:2"),
            http: format!("listed-{id}:3"),
        };
        config.nodes = vec![member(1), member(2)];
        config.advertise.native = Some("public:1".into());
        let members = config.members();
        assert_eq!((members[0].native.as_str(), members[0].peer.as_str()), ("public:1", "listed-1:2"));
        assert_eq!(members[1], member(2));
    }
}
