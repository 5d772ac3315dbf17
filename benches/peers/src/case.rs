//! What is compared: one load each, the same for every system.

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writers alone.
    Produce,
    /// Writers and a subscriber.
    EndToEnd,
    /// Writers and many subscribers, on a thin client where the system's own would cost more than its brokers.
    FanOut,
    /// A reader, from the first record on, again and again.
    Consume,
}

/// How records are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// Each system's client groups them, as its makers recommend for throughput.
    Large,
    /// Each system's client, without waiting for more.
    AtOnce,
    /// One at a time on each connection: the next when the last is acknowledged.
    Single,
}

/// One load.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) grouping: Grouping,
    pub(crate) record_bytes: u32,
    pub(crate) partitions: u32,
    pub(crate) connections: u32,
    pub(crate) subscribers: u32,
    /// Records a second; `None` for as many as are taken.
    pub(crate) rate: Option<u32>,
    pub(crate) fill_megabytes: u32,
    pub(crate) duration: f64,
    pub(crate) warm_up: f64,
}

/// Connections of the single-record cases.
const SINGLE_CONNECTIONS: [u32; 4] = [1, 8, 32, 128];
/// Subscribers of the fan-out cases.
const FAN_OUT_SUBSCRIBERS: [u32; 2] = [2, 1000];
/// Records a second in them: each goes to all subscribers.
const FAN_OUT_RATE: u32 = 50;

/// All of them.
pub(crate) fn all(rate: u32, duration: f64, warm_up: f64) -> Vec<Case> {
    let plain = Case {
        name: String::new(),
        kind: Kind::Produce,
        grouping: Grouping::Large,
        record_bytes: 1024,
        partitions: 1,
        connections: 1,
        subscribers: 0,
        rate: None,
        fill_megabytes: 0,
        duration,
        warm_up,
    };
    let named = |name: &str| Case { name: name.to_owned(), ..plain.clone() };
    let mut cases = vec![named("throughput")];
    for connections in SINGLE_CONNECTIONS {
        cases.push(Case {
            grouping: Grouping::Single,
            record_bytes: 2048,
            connections,
            ..named(&format!("single-{connections}"))
        });
    }
    cases.extend([
        Case { grouping: Grouping::AtOnce, rate: Some(rate), ..named("latency") },
        Case { kind: Kind::EndToEnd, grouping: Grouping::AtOnce, rate: Some(rate), ..named("end-to-end") },
        Case { partitions: 100, connections: 4, ..named("partitions-100") },
        Case { kind: Kind::Consume, fill_megabytes: 512, ..named("consume") },
    ]);
    cases.extend(FAN_OUT_SUBSCRIBERS.map(|subscribers| Case {
        kind: Kind::FanOut,
        grouping: Grouping::AtOnce,
        rate: Some(FAN_OUT_RATE),
        subscribers,
        ..named(&format!("fan-out-{subscribers}"))
    }));
    cases
}

impl Case {
    /// One that is not measured: so many seconds of throughput.
    pub(crate) fn to_settle(seconds: f64) -> Self {
        let settling = all(1, seconds, 0.0).into_iter().find(|case| case.grouping == Grouping::Large);
        Self { name: "settle".to_owned(), ..settling.expect("throughput is one of them") }
    }

    /// In words.
    pub(crate) fn what(&self) -> String {
        let Self { record_bytes, partitions, connections, subscribers, .. } = self;
        let what = match (self.kind, self.grouping) {
            (Kind::Consume, _) => format!("read {} MB again and again", self.fill_megabytes),
            (kind, grouping) => {
                let kind = match kind {
                    Kind::EndToEnd => "write and subscribe".to_owned(),
                    Kind::FanOut => format!("write, {subscribers} subscribers"),
                    Kind::Produce | Kind::Consume => "write".to_owned(),
                };
                let pace = match (self.rate, grouping) {
                    (Some(rate), _) => format!("{rate} records/s, open loop"),
                    (None, Grouping::Single) => "one record in flight each".to_owned(),
                    (None, _) => "as many as are taken, in large batches".to_owned(),
                };
                format!("{kind}, {connections} connection(s), {pace}")
            }
        };
        format!("{record_bytes} B records, {partitions} partition(s), {what}")
    }

    /// The options that every load generator here understands, of ours and theirs.
    pub(crate) fn common_options(&self) -> Vec<String> {
        let mut options = vec![
            ("size", self.record_bytes.to_string()),
            ("partitions", self.partitions.to_string()),
            ("duration", self.duration.to_string()),
            ("warm-up", self.warm_up.to_string()),
        ];
        if self.kind == Kind::Consume {
            options.push(("fill", self.fill_megabytes.to_string()));
            options.push(("readers", "1".to_owned()));
        } else {
            options.push(("connections", self.connections.to_string()));
        }
        if self.kind == Kind::FanOut {
            options.push(("subscribers", self.subscribers.to_string()));
        }
        if let Some(rate) = self.rate {
            options.push(("rate", rate.to_string()));
        }
        options.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }

    /// The load's name on a command line.
    pub(crate) fn load(&self) -> &'static str {
        match self.kind {
            Kind::Produce => "produce",
            Kind::EndToEnd => "end-to-end",
            Kind::FanOut => "fan-out",
            Kind::Consume => "consume",
        }
    }

    /// The series of the answer that is compared.
    pub(crate) fn series(&self) -> &'static str {
        match self.kind {
            Kind::Produce => "acknowledged",
            Kind::EndToEnd | Kind::FanOut => "delivered",
            Kind::Consume => "read",
        }
    }

    /// Whether more records a second are what is compared; else lower latencies.
    pub(crate) fn is_about_throughput(&self) -> bool {
        self.rate.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_of_their_own() {
        let cases = all(1, 1.0, 1.0);
        let mut names: Vec<&str> = cases.iter().map(|case| &*case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
    }
}
