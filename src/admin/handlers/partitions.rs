//! Partitions: their replicas, their leader, their log, and the positions kept in them.

use serde_json::json;

use super::super::answer::{self, Answer, Refusal};
use super::super::call::{Call, RequestBody};
use super::super::control::Control;
use super::super::partition;
use super::super::routes::OnPartition;
use super::super::views::{LogStart, NewPosition, Transfer};

pub(super) async fn answer<C: Control, B: RequestBody>(
    control: &C,
    operation: OnPartition,
    call: Call<'_, B>,
) -> Result<Answer, Refusal> {
    match operation {
        OnPartition::Describe => {
            let (topic, number) = call.path.partition()?;
            Ok(answer::ok(&partition::describe(control, topic, number).await?))
        }
        OnPartition::Replica => {
            let (topic, number) = call.path.partition()?;
            Ok(answer::ok(&control.replica(topic, number).await?))
        }
        OnPartition::Transfer => {
            let (path, transfer) = call.json::<Transfer>().await?;
            let (topic, number) = path.partition()?;
            control.transfer(topic, number, transfer.to).await?;
            Ok(answer::ok(&transfer))
        }
        OnPartition::Trim => {
            let (path, LogStart { log_start }) = call.json().await?;
            let (topic, number) = path.partition()?;
            let log_start = control.trim(topic, number, log_start).await?;
            Ok(answer::ok(&LogStart { log_start }))
        }
        OnPartition::Positions => {
            let (topic, number) = call.path.partition()?;
            let positions = control.positions(topic, number, call.asked("group").as_deref()).await?;
            Ok(answer::ok(&json!({ "positions": positions })))
        }
        OnPartition::CommitPosition => {
            let (path, position) = call.json::<NewPosition>().await?;
            let (topic, number) = path.partition()?;
            control.commit_position(topic, number, path.group(), position).await?;
            Ok(answer::done())
        }
        OnPartition::DeletePositions => {
            let (topic, number) = call.path.partition()?;
            control.delete_positions(topic, number, call.path.group()).await?;
            Ok(answer::done())
        }
    }
}
