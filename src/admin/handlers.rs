//! What each route does: from a request to an answer.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::control::{AdminError, Control, Readiness};
use super::partition;
use super::problem::Problem;
use super::routes::{self, Matched, Miss, Operation};
use super::views::{LogStart, NewTopic, NodeView, TopicChange, Transfer};
use super::{remote, scrape};

/// The description of this interface, kept in step with the routes by a test.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// Largest request body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// A body must be there within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// The handlers over one broker.
pub(super) struct Handlers<C> {
    control: Arc<C>,
}

impl<C: Control> Handlers<C> {
    pub(super) fn new(control: Arc<C>) -> Self {
        Handlers { control }
    }

    /// The answer to a request; never fails, and counts itself.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answer = match self.dispatch(request).await {
            Ok(answer) => answer,
            Err(Refusal { problem, allow }) => problem_answer(&problem, allow),
        };
        crate::metrics::http_answered(answer.status().as_u16());
        answer
    }

    async fn dispatch<B>(&self, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let Matched { operation, parameters } = routes::find(&head.method, head.uri.path())
            .map_err(|miss| refuse_route(miss, head.method.as_str(), head.uri.path()))?;
        let control = &self.control;
        match (operation, parameters.as_slice()) {
            (Operation::Live, _) => Ok(json_answer(StatusCode::OK, &json!({ "status": "live" }))),
            (Operation::Ready, _) => readiness(&control.readiness()),
            (Operation::Metrics, _) => {
                let with_partitions = scrape::wants_partitions(head.uri.query());
                let text = scrape::render(control.as_ref(), with_partitions).await;
                Ok(text_answer(PROMETHEUS_TEXT, text))
            }
            (Operation::OpenApi, _) => Ok(text_answer(JSON, OPENAPI)),
            (Operation::Cluster, _) => Ok(json_answer(StatusCode::OK, &control.cluster())),
            (Operation::Nodes, _) => {
                Ok(json_answer(StatusCode::OK, &json!({ "nodes": self.checked(control.nodes()).await })))
            }
            (Operation::Node, [node]) => {
                let id = node_id(node)?;
                let mut found = control.nodes();
                found.retain(|node| node.id == id);
                let found = self.checked(found).await.pop().ok_or(AdminError::UnknownNode(id))?;
                Ok(json_answer(StatusCode::OK, &found))
            }
            (Operation::RemoveNode, [node]) => {
                control.remove_node(node_id(node)?).await?;
                Ok(empty_answer(StatusCode::NO_CONTENT))
            }
            (Operation::Config, _) => Ok(json_answer(StatusCode::OK, control.config())),
            (Operation::ListTopics, _) => {
                Ok(json_answer(StatusCode::OK, &json!({ "topics": control.topics() })))
            }
            (Operation::CreateTopic, _) => {
                let topic =
                    control.create_topic(read_json::<NewTopic, _>(&head.headers, body).await?).await?;
                let location = format!("/v1/topics/{}", topic.name);
                Ok(with_location(json_answer(StatusCode::CREATED, &topic), &location))
            }
            (Operation::DescribeTopic, [topic]) => {
                Ok(json_answer(StatusCode::OK, &control.topic(topic).await?))
            }
            (Operation::AlterTopic, [topic]) => {
                let change = read_json::<TopicChange, _>(&head.headers, body).await?;
                Ok(json_answer(StatusCode::OK, &control.alter_topic(topic, change).await?))
            }
            (Operation::DeleteTopic, [topic]) => {
                control.delete_topic(topic).await?;
                Ok(empty_answer(StatusCode::NO_CONTENT))
            }
            (Operation::DescribePartition, [topic, number]) => {
                let view = partition::describe(control.as_ref(), topic, partition_number(number)?).await?;
                Ok(json_answer(StatusCode::OK, &view))
            }
            (Operation::DescribeReplica, [topic, number]) => {
                let state = control.replica(topic, partition_number(number)?).await?;
                Ok(json_answer(StatusCode::OK, &state))
            }
            (Operation::TransferLeadership, [topic, number]) => {
                let number = partition_number(number)?;
                let Transfer { to } = read_json(&head.headers, body).await?;
                control.transfer(topic, number, to).await?;
                Ok(json_answer(StatusCode::OK, &Transfer { to }))
            }
            (Operation::Trim, [topic, number]) => {
                let number = partition_number(number)?;
                let LogStart { log_start } = read_json(&head.headers, body).await?;
                let log_start = control.trim(topic, number, log_start).await?;
                Ok(json_answer(StatusCode::OK, &LogStart { log_start }))
            }
            _ => Err(refuse_route(Miss::Path, head.method.as_str(), head.uri.path())),
        }
    }

    /// Nodes, and whether they answer within a second.
    async fn checked(&self, mut nodes: Vec<NodeView>) -> Vec<NodeView> {
        let mut checks = tokio::task::JoinSet::new();
        for (position, node) in nodes.iter().enumerate().filter(|(_, node)| !node.reachable) {
            let address = node.http.clone();
            checks.spawn(async move { (position, remote::is_live(&address).await) });
        }
        while let Some(Ok((position, reachable))) = checks.join_next().await {
            nodes[position].reachable = reachable;
        }
        nodes
    }
}

/// An error answer before it is one.
struct Refusal {
    problem: Box<Problem>,
    allow: Option<String>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Refusal { problem: Box::new(problem), allow: None }
    }
}

impl From<AdminError> for Refusal {
    fn from(error: AdminError) -> Self {
        Problem::from(error).into()
    }
}

fn refuse(status: StatusCode, kind: &str, detail: impl Into<String>, fix: &str) -> Refusal {
    Problem::new(status, kind, detail, fix).into()
}

fn invalid(detail: impl Into<String>, fix: &str) -> Refusal {
    Problem::invalid(detail, fix).into()
}

fn refuse_route(miss: Miss, method: &str, path: &str) -> Refusal {
    let fix = "GET /openapi.json describes every route";
    match miss {
        Miss::Path => refuse(StatusCode::NOT_FOUND, "no-such-route", format!("nothing is at {path}"), fix),
        Miss::Method(allow) => {
            let detail = format!("{path} does not take {method}; it takes {allow}");
            let refusal = refuse(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail, fix);
            Refusal { allow: Some(allow), ..refusal }
        }
    }
}

fn readiness(readiness: &Readiness) -> Result<Answer, Refusal> {
    match readiness {
        Readiness::Ready => Ok(json_answer(StatusCode::OK, &json!({ "status": "ready" }))),
        Readiness::NotReady(reasons) => Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-ready",
            reasons.join("; "),
            "wait for recovery and elections; if it lasts, see whether a majority of the nodes runs (GET /v1/nodes)",
        )),
    }
}

fn node_id(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| invalid(format!("{text:?} is not a node's id"), "use a number from 1 on"))
}

fn partition_number(text: &str) -> Result<u32, Refusal> {
    text.parse()
        .map_err(|_| invalid(format!("{text:?} is not a partition's number"), "use a number from 0 on"))
}

/// The request's body as a `T`; bounded in size and time, and only if it is declared as JSON.
async fn read_json<T, B>(headers: &hyper::HeaderMap, body: B) -> Result<T, Refusal>
where
    T: DeserializeOwned,
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON) {
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            format!("the body is declared as {declared:?}"),
            "send JSON with the header content-type: application/json",
        ));
    }
    let bytes = read_body(body).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        invalid(error.to_string(), "correct the body; GET /openapi.json describes its fields")
    })
}

/// The whole body. One that is declared too long is refused before it arrives.
async fn read_body<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("the body has more than {BODY_BYTES_MAX} bytes"),
            "send a smaller body",
        )
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(invalid(error.to_string(), "send the whole body")),
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            format!("the body was not there after {} s", BODY_TIMEOUT.as_secs()),
            "send the body at once",
        )),
    }
}

fn base_answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn json_answer(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut body =
        serde_json::to_vec_pretty(value).expect("views hold numbers, texts, lists and options of them");
    body.push(b'\n');
    base_answer(status, JSON, body.into())
}

fn text_answer(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    base_answer(StatusCode::OK, content_type, text.into())
}

fn empty_answer(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

fn with_location(mut answer: Answer, location: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(LOCATION, value);
    }
    answer
}

fn problem_answer(problem: &Problem, allow: Option<String>) -> Answer {
    let mut answer = json_answer(problem.status_code(), problem);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(value) = allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
        headers.insert(ALLOW, value);
    }
    if problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}
