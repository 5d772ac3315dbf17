//! Moves of replicas: each request states a goal, which is in force when it is answered; the replicas move afterwards.

use hyper::StatusCode;

use super::super::answer::{self, Answer, Refusal};
use super::super::call::{Call, RequestBody};
use super::super::control::Control;
use super::super::routes::OnMove;
use super::super::views::{Cancelled, MoveGoal};

pub(super) async fn answer<C: Control, B: RequestBody>(
    control: &C,
    operation: OnMove,
    call: Call<'_, B>,
) -> Result<Answer, Refusal> {
    match operation {
        OnMove::List => Ok(answer::ok(&control.moves())),
        OnMove::CancelAll => {
            let cancelled = control.cancel_moves(None).await?;
            Ok(answer::ok(&Cancelled { cancelled }))
        }
        OnMove::PlanRebalance => Ok(answer::ok(&control.rebalance(true).await?)),
        OnMove::Rebalance => Ok(answer::json(StatusCode::ACCEPTED, &control.rebalance(false).await?)),
        OnMove::Begin => {
            let (path, goal) = call.json::<MoveGoal>().await?;
            let (topic, partition) = path.partition()?;
            control.move_partition(topic, partition, &goal.to).await?;
            Ok(answer::json(StatusCode::ACCEPTED, &goal))
        }
        OnMove::Cancel => {
            let cancelled = control.cancel_moves(Some(call.path.partition()?)).await?;
            Ok(answer::ok(&Cancelled { cancelled }))
        }
    }
}
