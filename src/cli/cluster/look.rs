//! What one look at the cluster found, what is wrong with it, and how that is shown.

use std::cmp::Reverse;

use lockstep_protocol::native::{PartitionMetadata, TailResponse};
use serde_json::{Value, json};

use crate::cli::brokers::BrokerLine;
use crate::cli::output::{or_dash, table};

/// Up to this many partitions are all shown, each with the ends of its log.
pub(super) const PARTITIONS_SHOWN_MAX: usize = 50;

/// The cluster at one time, as one broker knows it.
pub(super) struct Look {
    pub(super) cluster: Option<String>,
    pub(super) metadata_leader: Option<u64>,
    /// By id.
    pub(super) brokers: Vec<BrokerLine>,
    pub(super) partitions: Vec<PartitionLine>,
}

/// A partition; its tail only if it was asked for and its leader answered.
pub(super) struct PartitionLine {
    pub(super) topic: String,
    pub(super) partition: PartitionMetadata,
    pub(super) tail: Option<TailResponse>,
}

impl PartitionLine {
    fn has_no_leader(&self) -> bool {
        self.partition.leader.is_none()
    }

    fn moves(&self) -> bool {
        self.partition.moving_to.is_some()
    }
}

impl Look {
    /// Whether all brokers answer and all partitions have leaders.
    pub(super) fn is_healthy(&self) -> bool {
        self.brokers.iter().all(|broker| broker.up)
            && !self.partitions.iter().any(PartitionLine::has_no_leader)
    }

    /// Whether nothing is wrong but what an election mends.
    pub(super) fn may_be_electing(&self) -> bool {
        self.brokers.iter().all(|broker| broker.up) && !self.is_healthy()
    }

    /// Whether a replica is on a broker that does not answer.
    fn is_under_replicated(&self, line: &PartitionLine) -> bool {
        let answers = |id: &u64| self.brokers.iter().any(|broker| broker.info.id == *id && broker.up);
        !line.partition.replicas.iter().all(answers)
    }

    /// What is worth knowing about a partition, the worst first.
    fn states(&self, line: &PartitionLine) -> Vec<&'static str> {
        let states = [
            (line.has_no_leader(), "no leader"),
            (self.is_under_replicated(line), "under-replicated"),
            (line.moves(), "moving"),
        ];
        states.into_iter().filter_map(|(holds, state)| holds.then_some(state)).collect()
    }

    fn count(&self, holds: impl Fn(&PartitionLine) -> bool) -> usize {
        self.partitions.iter().filter(|line| holds(line)).count()
    }

    fn leaders(&self, broker: u64) -> usize {
        self.count(|line| line.partition.leader == Some(broker))
    }

    /// One line: healthy, or what is wrong.
    fn summary(&self) -> String {
        let down = self.brokers.iter().filter(|broker| !broker.up).map(|broker| broker.info.id.to_string());
        let down: Vec<String> = down.collect();
        let partitions = self.partitions.len();
        let mut facts = Vec::new();
        match down.as_slice() {
            [] => facts.push(counted(self.brokers.len(), "broker")),
            [one] => facts.push(format!("broker {one} does not answer")),
            several => facts.push(format!("brokers {} do not answer", several.join(", "))),
        }
        facts.push(counted(partitions, "partition"));
        let counts = [
            (self.count(PartitionLine::has_no_leader), "without a leader"),
            (self.count(|line| self.is_under_replicated(line)), "under-replicated"),
            (self.count(PartitionLine::moves), "moving"),
        ];
        let counts = counts.into_iter().filter(|(count, _)| *count > 0);
        facts.extend(counts.map(|(count, what)| format!("{count} {what}")));
        let verdict = if self.is_healthy() { "healthy" } else { "NOT HEALTHY" };
        format!("{verdict}: {}", facts.join(", "))
    }

    /// Everything, however many partitions there are.
    pub(super) fn to_json(&self) -> Value {
        let brokers = self.brokers.iter().map(|BrokerLine { info, up }| {
            json!({
                "id": info.id,
                "native": info.native,
                "http": info.http,
                "up": up,
                "draining": info.draining,
                "replicas": info.replicas,
                "leaders": self.leaders(info.id),
            })
        });
        let partitions = self.partitions.iter().map(|line| {
            json!({
                "topic": line.topic,
                "partition": line.partition.partition,
                "leader": line.partition.leader,
                "term": line.partition.term,
                "replicas": line.partition.replicas,
                "moving_to": line.partition.moving_to,
                "under_replicated": self.is_under_replicated(line),
                "log_start": line.tail.as_ref().map(|tail| tail.log_start),
                "high_watermark": line.tail.as_ref().map(|tail| tail.high_watermark),
            })
        });
        json!({
            "cluster": self.cluster,
            "healthy": self.is_healthy(),
            "summary": self.summary(),
            "metadata_leader": self.metadata_leader,
            "brokers": brokers.collect::<Vec<_>>(),
            "partitions": partitions.collect::<Vec<_>>(),
        })
    }

    /// The summary and two tables. Of many partitions, the second has those that need attention, unless `all` are asked for.
    pub(super) fn to_text(&self, all: bool) -> String {
        let cluster = self.cluster.as_deref().unwrap_or("unknown");
        let partitions = self.partitions_text(all);
        format!("{}\ncluster {cluster}\n\n{}\n\n{partitions}", self.summary(), self.brokers_table())
    }

    fn brokers_table(&self) -> String {
        let row = |BrokerLine { info, up }: &BrokerLine| {
            let leads = self.metadata_leader == Some(info.id);
            vec![
                info.id.to_string(),
                info.native.clone(),
                info.http.clone(),
                if *up { "up" } else { "DOWN" }.into(),
                if info.draining { "draining" } else { "active" }.into(),
                info.replicas.to_string(),
                self.leaders(info.id).to_string(),
                if leads { "metadata leader" } else { "" }.into(),
            ]
        };
        let rows: Vec<_> = self.brokers.iter().map(row).collect();
        table(&["BROKER", "NATIVE", "HTTP", "STATE", "DUTY", "REPLICAS", "LEADERS", ""], &rows)
    }

    fn partitions_text(&self, all: bool) -> String {
        if self.partitions.is_empty() {
            return "no topics yet".into();
        }
        let mut shown: Vec<&PartitionLine> = self.partitions.iter().collect();
        if all || shown.len() <= PARTITIONS_SHOWN_MAX {
            return self.partitions_table(&shown);
        }
        shown.retain(|line| !self.states(line).is_empty());
        let left_out = shown.len().saturating_sub(PARTITIONS_SHOWN_MAX);
        shown.sort_by_key(|line| Reverse((line.has_no_leader(), self.is_under_replicated(line))));
        shown.truncate(PARTITIONS_SHOWN_MAX);
        match (shown.len(), left_out) {
            (0, _) => "no partition needs attention; --all shows each".into(),
            (_, 0) => {
                format!("{}\n\nthe others need no attention; --all shows them", self.partitions_table(&shown))
            }
            (_, more) => {
                format!("{}\n\n{more} more need attention; --all shows them", self.partitions_table(&shown))
            }
        }
    }

    fn partitions_table(&self, lines: &[&PartitionLine]) -> String {
        let row = |line: &&PartitionLine| {
            let partition = &line.partition;
            vec![
                line.topic.clone(),
                partition.partition.to_string(),
                partition.leader.map_or_else(|| "NONE".to_owned(), |leader| leader.to_string()),
                partition.term.to_string(),
                replicas(partition),
                or_dash(line.tail.as_ref().map(|tail| tail.log_start)),
                or_dash(line.tail.as_ref().map(|tail| tail.high_watermark)),
                self.states(line).join(", "),
            ]
        };
        let rows: Vec<_> = lines.iter().map(row).collect();
        table(&["TOPIC", "PARTITION", "LEADER", "TERM", "REPLICAS", "LOG START", "LAST LSN", ""], &rows)
    }
}

/// `[1,2,3]`, or `[1,2,3] -> [1,2,4]` while it moves.
fn replicas(partition: &PartitionMetadata) -> String {
    let list = |ids: &[u64]| {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        format!("[{}]", ids.join(","))
    };
    let here = list(&partition.replicas);
    partition.moving_to.as_deref().map_or_else(|| here.clone(), |to| format!("{here} -> {}", list(to)))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use lockstep_protocol::native::BrokerInfo;

    use super::*;

    fn broker(id: u64, up: bool) -> BrokerLine {
        let address = |port: u64| format!("127.0.0.1:{port}");
        let info = BrokerInfo {
            id,
            directory: None,
            native: address(7400 + id),
            peer: address(7500 + id),
            http: address(7600 + id),
            rack: None,
            draining: false,
            replicas: 1,
            metadata: true,
        };
        BrokerLine { info, up }
    }

    /// Brokers 1 to 4, and this many partitions on 1, 2 and 3.
    fn look(partitions: u32) -> Look {
        let line = |partition| PartitionLine {
            topic: "t".into(),
            partition: PartitionMetadata {
                partition,
                shard: u64::from(partition) + 1,
                leader: Some(1),
                term: 5,
                replicas: vec![1, 2, 3],
                moving_to: None,
            },
            tail: None,
        };
        Look {
            cluster: Some("c".into()),
            metadata_leader: Some(1),
            brokers: (1..=4).map(|id| broker(id, true)).collect(),
            partitions: (0..partitions).map(line).collect(),
        }
    }

    fn first_line(look: &Look) -> String {
        look.to_text(false).lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_first_line_says_healthy_or_what_is_wrong() {
        let mut look = look(2);
        assert_eq!(first_line(&look), "healthy: 4 brokers, 2 partitions");
        look.partitions[0].partition.moving_to = Some(vec![1, 2, 4]);
        assert_eq!(first_line(&look), "healthy: 4 brokers, 2 partitions, 1 moving");
        look.brokers[2].up = false;
        look.partitions[1].partition.leader = None;
        let wrong = "NOT HEALTHY: broker 3 does not answer, 2 partitions, 1 without a leader, 2 under-replicated, 1 moving";
        assert_eq!(first_line(&look), wrong);
        assert_eq!(look.to_json()["healthy"], false);
    }

    #[test]
    fn a_move_shows_where_from_and_where_to() {
        let mut look = look(1);
        look.partitions[0].partition.moving_to = Some(vec![1, 2, 4]);
        assert!(look.to_text(false).contains("[1,2,3] -> [1,2,4]"), "{}", look.to_text(false));
        assert_eq!(look.to_json()["partitions"][0]["moving_to"], json!([1, 2, 4]));
    }

    #[test]
    fn a_broker_that_is_down_and_holds_nothing_leaves_no_partition_under_replicated() {
        let mut look = look(1);
        look.brokers[3].up = false;
        assert!(!look.is_healthy(), "it is missed all the same");
        assert_eq!(look.to_json()["partitions"][0]["under_replicated"], false);
    }

    #[test]
    fn of_many_partitions_only_those_in_need_are_shown_unless_all_are_asked_for() {
        let rows = |text: &str| text.lines().filter(|line| line.starts_with("t ")).count();
        let mut look = look(1000);
        assert_eq!(rows(&look.to_text(false)), 0);
        assert_eq!(rows(&look.to_text(true)), 1000);
        look.partitions[777].partition.moving_to = Some(vec![1, 2, 4]);
        assert_eq!(rows(&look.to_text(false)), 1);
        look.brokers[2].up = false;
        look.partitions[999].partition.leader = None;
        let text = look.to_text(false);
        assert_eq!(rows(&text), PARTITIONS_SHOWN_MAX);
        let worst = text.lines().find(|line| line.starts_with("t ")).unwrap_or_default();
        assert!(worst.contains("no leader"), "the worst comes first: {worst}");
        assert!(text.ends_with("950 more need attention; --all shows them"), "{text}");
        assert_eq!(look.to_json()["partitions"].as_array().map(Vec::len), Some(1000), "a script gets all");
    }

    #[test]
    fn few_partitions_are_all_shown() {
        let look = look(u32::try_from(PARTITIONS_SHOWN_MAX).unwrap());
        assert_eq!(look.to_text(false), look.to_text(true));
    }
}
