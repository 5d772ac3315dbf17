//! Produce requests: begun in the order they came, answered when their batches are committed.

use std::time::Duration;

use lockstep_protocol::native::{Durability, ProduceRequest, ProduceResponse, Produced};
use lockstep_protocol::{ErrorCode, ErrorOutcome, Frame, Outcome};
use tokio::time::Instant;

use super::connection::Context;
use super::inbound::lend;
use super::outbound::Gone;
use super::outcome::ToOutcome;
use super::positions::to_commit;
use crate::broker::{Broker, ByteLease, ProduceBatch, ProduceError};
use crate::engine::Appended;
use crate::metrics;

/// The longest a client may wait for a commit.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// How long all the batches of a request together may wait for their partitions to be opened here.
const LOCATE_WAIT: Duration = Duration::from_secs(1);

/// Hands the batches to their partitions, in order, before it returns; what is returned waits for their
/// commit and answers. Nothing is, if the request is refused or answered already.
pub(super) async fn begin(
    context: &Context,
    frame: Frame,
    lease: Option<ByteLease>,
) -> Result<Option<impl Future<Output = ()> + Send + use<>>, Gone> {
    let received = Instant::now();
    let Some(request) = context.decode::<ProduceRequest>(&frame).await? else { return Ok(None) };
    let batches = match request.split_payload(&frame.payload) {
        Ok(batches) => batches,
        Err(error) => {
            let outcome = ErrorOutcome::new(ErrorCode::MalformedRequest, error.to_string());
            return context.refuse(&frame, &outcome).await.map(|()| None);
        }
    };
    let lease = match lease {
        Some(lease) => lease,
        None => lend(context.broker.inflight(), frame.payload.len()).await,
    };
    let timeout = Duration::from_millis(request.timeout_ms.into()).min(TIMEOUT_MAX);
    // The items share one wait for topics that are not known here yet, and the next request waits behind it.
    let locate_by = Instant::now() + LOCATE_WAIT;
    let mut begun = Vec::with_capacity(batches.len());
    for (item, batch) in request.batches.into_iter().zip(batches) {
        let batch = ProduceBatch {
            topic: item.topic,
            partition: item.partition,
            batch,
            expected_next_lsn: item.expected_next_lsn,
            fence: item.fence,
            position: item.position.map(to_commit),
        };
        begun.push(context.broker.begin_produce(batch, timeout, locate_by).await);
    }
    let context = context.clone();
    let bytes = frame.payload.len() as u64;
    Ok(Some(async move {
        let mut results = Vec::with_capacity(begun.len());
        for append in begun {
            results.push(match append {
                Ok(append) => append.finish().await,
                Err(refused) => Err(refused),
            });
        }
        let records =
            results.iter().flatten().map(|appended| appended.last_lsn - appended.first_lsn + 1).sum();
        let results = results.into_iter().map(|result| to_outcome(&context.broker, result)).collect();
        let answer = Ok(ProduceResponse { results });
        metrics::produce_answered(received.elapsed(), bytes, records);
        metrics::request_answered("produce");
        let answer = context.respond::<ProduceRequest>(&frame, &answer, Vec::new());
        // The lease ends before the answer waits in the queue: it counts batches that are not committed.
        drop((frame, lease));
        let inflight = context.broker.inflight();
        metrics::inflight(inflight.held_bytes(), inflight.total_bytes());
        let _ = context.outbound.send(answer, None).await;
    }))
}

fn to_outcome(broker: &Broker, result: Result<Appended, ProduceError>) -> Outcome<Produced> {
    match result {
        Ok(Appended { first_lsn, last_lsn, duplicate }) => {
            Ok(Produced { first_lsn, last_lsn, duplicate, acked: Durability::SyncedMajority })
        }
        Err(error) => {
            let outcome = error.to_outcome(broker);
            metrics::request_failed("produce", outcome.code.name());
            Err(outcome)
        }
    }
}
