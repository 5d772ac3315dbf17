//! What each route does: from a request to an answer.

mod brokers;
mod moves;
mod partitions;
mod process;
mod topics;

use std::sync::Arc;

use hyper::Request;

use super::answer::{Answer, Refusal};
use super::call::{Call, Path, RequestBody};
use super::control::Control;
use super::routes::{self, Matched, Operation};

/// The handlers over one broker.
pub(super) struct Handlers<C> {
    control: Arc<C>,
}

impl<C: Control> Handlers<C> {
    pub(super) fn new(control: Arc<C>) -> Self {
        Handlers { control }
    }

    /// The answer to a request; never fails, and counts itself.
    pub(super) async fn answer<B: RequestBody>(&self, request: Request<B>) -> Answer {
        let answer = self.dispatch(request).await.unwrap_or_else(Refusal::into_answer);
        crate::metrics::http_answered(answer.status().as_u16());
        answer
    }

    async fn dispatch<B: RequestBody>(&self, request: Request<B>) -> Result<Answer, Refusal> {
        let (head, body) = request.into_parts();
        let Matched { operation, parameters } = routes::find(&head.method, head.uri.path())
            .map_err(|miss| Refusal::of_route(miss, head.method.as_str(), head.uri.path()))?;
        let call = Call::new(Path::decode(parameters)?, &head, body);
        let control = self.control.as_ref();
        match operation {
            Operation::Process(operation) => process::answer(control, operation, &call).await,
            Operation::Broker(operation) => brokers::answer(control, operation, &call).await,
            Operation::Move(operation) => moves::answer(control, operation, call).await,
            Operation::Topic(operation) => topics::answer(control, operation, call).await,
            Operation::Partition(operation) => partitions::answer(control, operation, call).await,
        }
    }
}
