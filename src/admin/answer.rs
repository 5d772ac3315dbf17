//! Answers, and refusals before they are answers.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::control::AdminError;
use super::problem::Problem;
use super::routes::Miss;

/// The media type of bodies and of all answers but those that name another.
pub(super) const JSON: &str = "application/json";
const PROBLEM_JSON: &str = "application/problem+json";

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// 200 with JSON.
pub(super) fn ok(value: &impl Serialize) -> Answer {
    json(StatusCode::OK, value)
}

/// JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut body =
        serde_json::to_vec_pretty(value).expect("views hold numbers, texts, lists and options of them");
    body.push(b'\n');
    whole(status, JSON, body.into())
}

/// 201 with what was made, and where it is found.
pub(super) fn created(value: &impl Serialize, location: &str) -> Answer {
    let mut answer = json(StatusCode::CREATED, value);
    if let Ok(value) = HeaderValue::from_str(location) {
        answer.headers_mut().insert(LOCATION, value);
    }
    answer
}

/// 200 with text of this media type.
pub(super) fn text(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    whole(StatusCode::OK, content_type, text.into())
}

/// 204: it was done, and there is nothing to say.
pub(super) fn done() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Why a request is not done.
pub(super) struct Refusal {
    problem: Box<Problem>,
    allow: Option<String>,
}

impl Refusal {
    /// A refusal of this kind; the fix says what to do.
    pub(super) fn new(status: StatusCode, kind: &str, detail: impl Into<String>, fix: &str) -> Refusal {
        Problem::new(status, kind, detail, fix).into()
    }

    /// The body or a value cannot be used.
    pub(super) fn invalid(detail: impl Into<String>, fix: &str) -> Refusal {
        Problem::invalid(detail, fix).into()
    }

    /// Nothing answers this method on this path.
    pub(super) fn of_route(miss: Miss, method: &str, path: &str) -> Refusal {
        let fix = "GET /openapi.json describes every route";
        match miss {
            Miss::Path => {
                Refusal::new(StatusCode::NOT_FOUND, "no-such-route", format!("nothing is at {path}"), fix)
            }
            Miss::Method(allow) => {
                let detail = format!("{path} does not take {method}; it takes {allow}");
                let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail, fix);
                Refusal { allow: Some(allow), ..refusal }
            }
        }
    }

    /// The answer that says so.
    pub(super) fn into_answer(self) -> Answer {
        let Refusal { problem, allow } = self;
        let mut answer = json(problem.status_code(), &problem);
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
