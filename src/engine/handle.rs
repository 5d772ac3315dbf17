//! One local replica of a shard, as the rest of the broker sees it.

use std::sync::Arc;

use lockstep_storage::LogReader;
use tokio::sync::{mpsc, oneshot, watch};

use super::worker::{Ask, Mail};
use crate::{
    raft::MembershipChange,
    replica::Input,
    shard::{
        Answer, Append, AppendError, Appended, Command, ShardDescription, ShardId, ShardView,
        positions::Position,
    },
};

/// One local replica of a shard. Cheap to clone; outlives the shard, and then answers [`AppendError::Stopped`].
#[derive(Clone)]
pub struct PartitionHandle {
    shard: ShardId,
    reader: watch::Receiver<Option<LogReader>>,
    view: watch::Receiver<ShardView>,
    worker: mpsc::UnboundedSender<Mail>,
}

impl PartitionHandle {
    pub(super) fn new(
        shard: ShardId,
        reader: watch::Receiver<Option<LogReader>>,
        view: watch::Receiver<ShardView>,
        worker: mpsc::UnboundedSender<Mail>,
    ) -> Self {
        Self { shard, reader, view, worker }
    }

    /// Which shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// What everyone may know of it now.
    pub fn view(&self) -> ShardView {
        self.view.borrow().clone()
    }

    /// Wakes on every change of the view: high watermark, log start, leader, health.
    pub fn watch(&self) -> watch::Receiver<ShardView> {
        self.view.clone()
    }

    /// Reads by LSN; nothing while a damaged log has not been opened yet. Callers never ask above the view's high
    /// watermark, and never keep it: a log that was repaired is read anew.
    pub fn reader(&self) -> Option<LogReader> {
        self.reader.borrow().clone()
    }

    /// A read found that stored bytes have changed: the replica is repaired from its peers.
    pub fn report_damage(&self, why: String) {
        let input = Input::Damaged(why);
        let _ = self.worker.send(Mail::Input { shard: self.shard, input });
    }

    /// Appends a batch; returns once it is synced on a majority.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        match self.ask(Ask::Append(append)).await? {
            Answer::Appended(appended) => Ok(appended),
            _ => Err(AppendError::OutcomeUnknown),
        }
    }

    /// Queues a batch at once, before the first await: appends called in an order are judged in that order.
    pub fn begin_append(
        &self,
        append: Append,
    ) -> impl Future<Output = Result<Appended, AppendError>> + use<> {
        let answer = self.begin(Ask::Append(append));
        async move {
            // Whoever held the request is gone; what became of it cannot be said.
            match answer.await.unwrap_or(Err(AppendError::OutcomeUnknown))? {
                Answer::Appended(appended) => Ok(appended),
                _ => Err(AppendError::OutcomeUnknown),
            }
        }
    }

    /// Changes the shard's state; returns once the change is committed.
    pub async fn command(&self, command: Command) -> Result<(), AppendError> {
        self.ask(Ask::Command(command)).await.map(|_| ())
    }

    /// How far a group, or every one, has come, at some moment after the call, confirmed by a quorum.
    pub async fn positions(&self, group: Option<Arc<str>>) -> Result<Vec<Position>, AppendError> {
        match self.ask(Ask::Positions(group)).await? {
            Answer::Positions(positions) => Ok(positions),
            _ => Err(AppendError::OutcomeUnknown),
        }
    }

    /// The last committed LSN at some moment after the call, confirmed by a quorum.
    pub async fn tail(&self) -> Result<u64, AppendError> {
        match self.ask(Ask::Tail).await? {
            Answer::Tail(lsn) => Ok(lsn),
            _ => Err(AppendError::OutcomeUnknown),
        }
    }

    /// Begins to hand leadership to a node; the view tells when it has it.
    pub async fn transfer_leadership(&self, to: u64) -> Result<(), AppendError> {
        self.ask(Ask::Transfer(to)).await.map(|_| ())
    }

    /// Begins to hand leadership to whoever has come furthest, from the moment of the call on; the view tells when it is
    /// done. Refused if this replica does not lead, or nobody else may.
    pub fn hand_over(&self) -> impl Future<Output = Result<(), AppendError>> + use<> {
        let answer = self.begin(Ask::HandOver);
        async move { answer.await.unwrap_or(Err(AppendError::OutcomeUnknown)).map(|_| ()) }
    }

    /// Proposes a change of the membership that was decided on the one of this index; another in force refuses it.
    pub async fn change_membership(
        &self,
        changes: Vec<MembershipChange>,
        decided_on: u64,
    ) -> Result<(), AppendError> {
        self.ask(Ask::Membership(changes, decided_on)).await.map(|_| ())
    }

    /// The replica in detail; `None` once it is gone.
    pub async fn describe(&self) -> Option<ShardDescription> {
        let (reply, answer) = oneshot::channel();
        self.worker.send(Mail::Describe { shard: self.shard, reply }).ok()?;
        answer.await.ok()
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, AppendError> {
        self.begin(ask).await.unwrap_or(Err(AppendError::OutcomeUnknown))
    }

    fn begin(&self, ask: Ask) -> oneshot::Receiver<Result<Answer, AppendError>> {
        let (reply, answer) = oneshot::channel();
        let _ = self.worker.send(Mail::Request { shard: self.shard, ask, reply });
        answer
    }
}
