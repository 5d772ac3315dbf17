//! Every route, once. Placeholders in braces match one segment of a path.

use hyper::Method;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Live,
    Ready,
    Metrics,
    OpenApi,
    Cluster,
    Nodes,
    Node,
    RemoveNode,
    Config,
    ListTopics,
    CreateTopic,
    DescribeTopic,
    AlterTopic,
    DeleteTopic,
    DescribePartition,
    DescribeReplica,
    TransferLeadership,
    Trim,
}

/// A method on a path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) template: &'static str,
    pub(super) operation: Operation,
}

const fn route(method: Method, template: &'static str, operation: Operation) -> Route {
    Route { method, template, operation }
}

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    route(Method::GET, "/livez", Operation::Live),
    route(Method::GET, "/readyz", Operation::Ready),
    route(Method::GET, "/metrics", Operation::Metrics),
    route(Method::GET, "/openapi.json", Operation::OpenApi),
    route(Method::GET, "/v1/cluster", Operation::Cluster),
    route(Method::GET, "/v1/nodes", Operation::Nodes),
    route(Method::GET, "/v1/nodes/{node}", Operation::Node),
    route(Method::DELETE, "/v1/nodes/{node}", Operation::RemoveNode),
    route(Method::GET, "/v1/config", Operation::Config),
    route(Method::GET, "/v1/topics", Operation::ListTopics),
    route(Method::POST, "/v1/topics", Operation::CreateTopic),
    route(Method::GET, "/v1/topics/{topic}", Operation::DescribeTopic),
    route(Method::PATCH, "/v1/topics/{topic}", Operation::AlterTopic),
    route(Method::DELETE, "/v1/topics/{topic}", Operation::DeleteTopic),
    route(Method::GET, "/v1/topics/{topic}/partitions/{partition}", Operation::DescribePartition),
    route(Method::GET, "/v1/topics/{topic}/partitions/{partition}/replica", Operation::DescribeReplica),
    route(Method::POST, "/v1/topics/{topic}/partitions/{partition}/transfer", Operation::TransferLeadership),
    route(Method::POST, "/v1/topics/{topic}/partitions/{partition}/trim", Operation::Trim),
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
            Matched { operation: Operation::DescribePartition, parameters: vec!["orders", "3"] }
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
        assert_eq!(find(&Method::HEAD, "/livez").map(|found| found.operation), Ok(Operation::Live));
    }
}
