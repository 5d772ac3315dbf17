//! Every route, once. Placeholders in braces match one segment of a path.

use hyper::Method;

/// What a route does, by what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Process(OnProcess),
    Broker(OnBroker),
    Move(OnMove),
    Topic(OnTopic),
    Partition(OnPartition),
}

/// What is asked of this process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnProcess {
    Live,
    Ready,
    Metrics,
    OpenApi,
    Config,
}

/// What is asked about the cluster's brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnBroker {
    Cluster,
    List,
    Describe,
    Drain,
    Keep,
    Remove,
}

/// What is asked about moves of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnMove {
    List,
    CancelAll,
    PlanRebalance,
    Rebalance,
    Begin,
    Cancel,
}

/// What is asked about topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnTopic {
    List,
    Create,
    Describe,
    Alter,
    Delete,
}

/// What is asked about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnPartition {
    Describe,
    Replica,
    Transfer,
    Trim,
    Positions,
    CommitPosition,
    DeletePositions,
}

/// A method on a path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) template: &'static str,
    pub(super) operation: Operation,
}

const fn process(template: &'static str, operation: OnProcess) -> Route {
    Route { method: Method::GET, template, operation: Operation::Process(operation) }
}

const fn broker(method: Method, template: &'static str, operation: OnBroker) -> Route {
    Route { method, template, operation: Operation::Broker(operation) }
}

const fn moves(method: Method, template: &'static str, operation: OnMove) -> Route {
    Route { method, template, operation: Operation::Move(operation) }
}

const fn topic(method: Method, template: &'static str, operation: OnTopic) -> Route {
    Route { method, template, operation: Operation::Topic(operation) }
}

const fn partition(method: Method, template: &'static str, operation: OnPartition) -> Route {
    Route { method, template, operation: Operation::Partition(operation) }
}

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    process("/livez", OnProcess::Live),
    process("/readyz", OnProcess::Ready),
    process("/metrics", OnProcess::Metrics),
    process("/openapi.json", OnProcess::OpenApi),
    process("/v1/config", OnProcess::Config),
    broker(Method::GET, "/v1/cluster", OnBroker::Cluster),
    broker(Method::GET, "/v1/brokers", OnBroker::List),
    broker(Method::GET, "/v1/brokers/{broker}", OnBroker::Describe),
    broker(Method::DELETE, "/v1/brokers/{broker}", OnBroker::Remove),
    broker(Method::PUT, "/v1/brokers/{broker}/drain", OnBroker::Drain),
    broker(Method::DELETE, "/v1/brokers/{broker}/drain", OnBroker::Keep),
    moves(Method::GET, "/v1/moves", OnMove::List),
    moves(Method::DELETE, "/v1/moves", OnMove::CancelAll),
    moves(Method::GET, "/v1/rebalance", OnMove::PlanRebalance),
    moves(Method::POST, "/v1/rebalance", OnMove::Rebalance),
    moves(Method::PUT, "/v1/topics/{topic}/partitions/{partition}/move", OnMove::Begin),
    moves(Method::DELETE, "/v1/topics/{topic}/partitions/{partition}/move", OnMove::Cancel),
    topic(Method::GET, "/v1/topics", OnTopic::List),
    topic(Method::POST, "/v1/topics", OnTopic::Create),
    topic(Method::GET, "/v1/topics/{topic}", OnTopic::Describe),
    topic(Method::PATCH, "/v1/topics/{topic}", OnTopic::Alter),
    topic(Method::DELETE, "/v1/topics/{topic}", OnTopic::Delete),
    partition(Method::GET, "/v1/topics/{topic}/partitions/{partition}", OnPartition::Describe),
    partition(Method::GET, "/v1/topics/{topic}/partitions/{partition}/replica", OnPartition::Replica),
    partition(Method::POST, "/v1/topics/{topic}/partitions/{partition}/transfer", OnPartition::Transfer),
    partition(Method::POST, "/v1/topics/{topic}/partitions/{partition}/trim", OnPartition::Trim),
    partition(Method::GET, "/v1/topics/{topic}/partitions/{partition}/positions", OnPartition::Positions),
    partition(
        Method::PUT,
        "/v1/topics/{topic}/partitions/{partition}/positions/{group}",
        OnPartition::CommitPosition,
    ),
    partition(
        Method::DELETE,
        "/v1/topics/{topic}/partitions/{partition}/positions/{group}",
        OnPartition::DeletePositions,
    ),
];

/// A route that was found, with what stood in its placeholders, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matched<'a> {
    pub(super) operation: Operation,
    pub(super) parameters: Vec<&'a str>,
}

/// Why none was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// Nothing is at the path.
    Path,
    /// Something is, for these methods: the value of `Allow`.
    Method(String),
}

/// Finds what answers `method` on `path`. HEAD finds what GET does.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<Matched<'a>, Miss> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(parameters) = match_template(route.template, path) else { continue };
        if route.method == *wanted {
            return Ok(Matched { operation: route.operation, parameters });
        }
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push(Method::HEAD.as_str());
        }
    }
    if allowed.is_empty() { Err(Miss::Path) } else { Err(Miss::Method(allowed.join(", "))) }
}

fn match_template<'a>(template: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut parameters = Vec::new();
    let (mut expected, mut actual) = (template.split('/'), path.split('/'));
    loop {
        match (expected.next(), actual.next()) {
            (None, None) => return Some(parameters),
            (Some(placeholder), Some(value)) if placeholder.starts_with('{') && !value.is_empty() => {
                parameters.push(value);
            }
            (Some(expected), Some(actual)) if expected == actual => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_match_one_segment_each() {
        let found = find(&Method::GET, "/v1/topics/orders/partitions/3").expect("a route");
        assert_eq!(
            found,
            Matched {
                operation: Operation::Partition(OnPartition::Describe),
                parameters: vec!["orders", "3"]
            }
        );
        assert_eq!(find(&Method::GET, "/v1/topics//partitions/3"), Err(Miss::Path));
        assert_eq!(find(&Method::GET, "/v1/topics/a/b"), Err(Miss::Path));
    }

    #[test]
    fn another_method_is_told_which_are_allowed() {
        assert_eq!(find(&Method::PUT, "/v1/topics"), Err(Miss::Method("GET, HEAD, POST".into())));
        assert_eq!(find(&Method::GET, "/v1/topics/a/partitions/0/trim"), Err(Miss::Method("POST".into())));
    }

    #[test]
    fn head_finds_what_get_does() {
        assert_eq!(
            find(&Method::HEAD, "/livez").map(|found| found.operation),
            Ok(Operation::Process(OnProcess::Live))
        );
    }
}
