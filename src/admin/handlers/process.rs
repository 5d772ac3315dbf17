//! This process: whether it lives and serves, its metrics, its settings, and this interface itself.

use hyper::StatusCode;
use serde_json::json;

use super::super::OPENAPI;
use super::super::answer::{self, Answer, JSON, Refusal};
use super::super::call::{Call, RequestBody};
use super::super::control::{Control, Readiness};
use super::super::routes::OnProcess;
use super::super::scrape;

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn answer<C: Control, B: RequestBody>(
    control: &C,
    operation: OnProcess,
    call: &Call<'_, B>,
) -> Result<Answer, Refusal> {
    match operation {
        OnProcess::Live => Ok(answer::ok(&json!({ "status": "live" }))),
        OnProcess::Ready => readiness(&control.readiness()),
        OnProcess::Metrics => {
            let with_partitions = call.asked("partitions").is_some_and(|value| value == "true");
            Ok(answer::text(PROMETHEUS_TEXT, scrape::render(control, with_partitions).await))
        }
        OnProcess::OpenApi => Ok(answer::text(JSON, OPENAPI)),
        OnProcess::Config => Ok(answer::ok(control.config())),
    }
}

fn readiness(readiness: &Readiness) -> Result<Answer, Refusal> {
    match readiness {
        Readiness::Ready => Ok(answer::ok(&json!({ "status": "ready" }))),
        Readiness::NotReady(reasons) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-ready",
            reasons.join("; "),
            "wait for recovery and elections; if it lasts, see whether a majority of the brokers runs (GET /v1/brokers)",
        )),
    }
}
