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
    /// The same with batches of no more than [`SMALL_BATCH_BYTES`].
    Small,
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
    /// Seconds more that do not count, for a client on a virtual machine: each case starts a new one, which compiles what
    /// is hot.
    pub(crate) client_warm_up: f64,
}

/// Seconds of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) duration: f64,
    pub(crate) warm_up: f64,
    pub(crate) client_warm_up: f64,
}

/// What [`Grouping::Small`] gathers at the most.
pub(crate) const SMALL_BATCH_BYTES: u32 = 8 << 10;
/// The case whose rate is our peak.
pub(crate) const PEAK: &str = "throughput";
/// Cases on many partitions, each with the one that does the same on one.
pub(crate) const ON_ONE_PARTITION: [(&str, &str); 2] =
    [("partitions-100", PEAK), ("partitions-100-small", "throughput-small")];

/// Connections of the single-record cases.
const SINGLE_CONNECTIONS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Subscribers of the fan-out cases.
const FAN_OUT_SUBSCRIBERS: [u32; 2] = [2, 1000];
/// Records a second in them: each goes to all subscribers. Twice as many fill two processors, and what is measured is a queue.
const FAN_OUT_RATE: u32 = 25;

/// All of them.
pub(crate) fn all(rate: u32, times: Times) -> Vec<Case> {
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
        duration: times.duration,
        warm_up: times.warm_up,
        client_warm_up: times.client_warm_up,
    };
    let named = |name: &str| Case { name: name.to_owned(), ..plain.clone() };
    let mut cases = vec![named(PEAK), Case { grouping: Grouping::Small, ..named("throughput-small") }];
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
        Case { grouping: Grouping::Small, partitions: 100, connections: 4, ..named("partitions-100-small") },
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
        let times = Times { duration: seconds, warm_up: 0.0, client_warm_up: 0.0 };
        Self { name: "settle".to_owned(), ..Self::of_the_peak(times) }
    }

    /// The one whose rate is our peak.
    pub(crate) fn of_the_peak(times: Times) -> Self {
        all(1, times).into_iter().find(|case| case.name == PEAK).expect("it is one of them")
    }

    /// Records a second that are to be delivered, or acknowledged; `None` for as many as are taken.
    pub(crate) fn asked_rate(&self) -> Option<f64> {
        let copies = if self.kind == Kind::FanOut { self.subscribers } else { 1 };
        self.rate.map(|rate| f64::from(rate) * f64::from(copies))
    }

    /// Whether its rate is a share of our peak.
    pub(crate) fn is_at_share_of_peak(&self) -> bool {
        self.rate.is_some() && self.kind != Kind::FanOut
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
                    (None, Grouping::Small) => {
                        format!("as many as are taken, in batches of {} KiB", SMALL_BATCH_BYTES >> 10)
                    }
                    (None, _) => "as many as are taken, in large batches".to_owned(),
                };
                format!("{kind}, {connections} connection(s), {pace}")
            }
        };
        format!("{record_bytes} B records, {partitions} partition(s), {what}")
    }

    /// The options that every load generator here understands, of ours and theirs.
    pub(crate) fn common_options(&self, has_virtual_machine: bool) -> Vec<String> {
        let warm_up = if has_virtual_machine { self.warm_up + self.client_warm_up } else { self.warm_up };
        let mut options = vec![
            ("size", self.record_bytes.to_string()),
            ("partitions", self.partitions.to_string()),
            ("duration", self.duration.to_string()),
            ("warm-up", warm_up.to_string()),
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

    const TIMES: Times = Times { duration: 1.0, warm_up: 2.0, client_warm_up: 4.0 };

    #[test]
    fn cases_have_names_of_their_own() {
        let cases = all(1, TIMES);
        let mut names: Vec<&str> = cases.iter().map(|case| &*case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn only_clients_on_a_virtual_machine_warm_up_for_longer() {
        let case = Case::of_the_peak(TIMES);
        let warm_up = |has_virtual_machine| {
            let options = case.common_options(has_virtual_machine);
            let at = options.iter().position(|option| option == "--warm-up").unwrap();
            options[at + 1].clone()
        };
        assert_eq!((warm_up(false), warm_up(true)), ("2".to_owned(), "6".to_owned()));
    }

    #[test]
    fn each_case_on_many_partitions_has_one_on_one_partition_that_groups_alike() {
        let cases = all(1, TIMES);
        let find = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
        for (many, one) in ON_ONE_PARTITION.map(|(many, one)| (find(many), find(one))) {
            assert_eq!((many.partitions, one.partitions), (100, 1));
            assert_eq!((many.grouping, many.record_bytes), (one.grouping, one.record_bytes));
        }
    }

    #[test]
    fn each_subscriber_is_asked_to_get_the_whole_rate() {
        let cases = all(300, TIMES);
        let asked = |name: &str| cases.iter().find(|case| case.name == name).unwrap().asked_rate();
        assert_eq!(asked("latency"), Some(300.0));
        assert_eq!(asked("fan-out-1000"), Some(25_000.0));
        assert_eq!(asked("throughput"), None);
    }
}
