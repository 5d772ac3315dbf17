//! What clients do.

use bytes::Bytes;
use lockstep::{
    raft::MembershipChange,
    shard::{Answer, Append, Appended, Command, Input, Token},
};
use lockstep_protocol::{
    batch::BatchHeader,
    batch_builder::{BatchBuilder, ProducerSequence},
    record::Record,
};

use super::{Cluster, Verdict};

impl Cluster {
    /// Sends a batch of text records to a node; its answer comes later.
    pub fn send(&mut self, node: u64, values: &[&str]) -> Token {
        self.send_as(node, values, ProducerSequence::NONE)
    }

    /// The same from a producer that can retry.
    pub fn send_as(&mut self, node: u64, values: &[&str], producer: ProducerSequence) -> Token {
        self.append(node, append_of(values, producer))
    }

    /// The same with conditions.
    pub fn append(&mut self, node: u64, append: Append) -> Token {
        let token = self.token();
        self.step(node, Input::Append { token, append });
        token
    }

    /// Sends batches that came in while the node was busy: they are one turn.
    pub fn append_at_once(&mut self, node: u64, appends: Vec<Append>) -> Vec<Token> {
        let tokens: Vec<Token> = appends.iter().map(|_| self.token()).collect();
        let inputs =
            tokens.iter().zip(appends).map(|(token, append)| Input::Append { token: *token, append });
        self.step_at_once(node, inputs.map(Into::into));
        tokens
    }

    /// Sends a batch and lets everything happen; it must have been acknowledged.
    pub fn produce(&mut self, node: u64, values: &[&str]) -> Appended {
        let token = self.send(node, values);
        self.settle();
        match self.answer(token) {
            Some(Ok(Answer::Appended(appended))) => *appended,
            other => panic!("{values:?} was not acknowledged by node {node}: {other:?}"),
        }
    }

    /// Sends a command.
    pub fn command(&mut self, node: u64, command: Command) -> Token {
        let token = self.token();
        self.step(node, Input::Command { token, command });
        token
    }

    /// Asks for a confirmed tail.
    pub fn tail(&mut self, node: u64) -> Token {
        let token = self.token();
        self.step(node, Input::Tail { token });
        token
    }

    /// Asks how far all groups have come, confirmed.
    pub fn positions(&mut self, node: u64) -> Token {
        let token = self.token();
        self.step(node, Input::Positions { token, group: None });
        token
    }

    /// Proposes a membership change and lets everything happen.
    pub fn change_membership(&mut self, node: u64, changes: Vec<MembershipChange>) {
        let token = self.token();
        self.step(node, Input::Membership { token, changes, decided_on: None });
        self.settle();
        assert_eq!(self.answer(token), Some(&Ok(Answer::Done)));
    }

    /// What a request was told so far.
    pub fn answer(&self, token: Token) -> Option<&Verdict> {
        self.answers.get(&token)
    }
}

/// A batch of text records, ready to be appended.
pub fn append_of(values: &[&str], producer: ProducerSequence) -> Append {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder
            .push(&Record::new(1_000, Bytes::copy_from_slice(value.as_bytes())))
            .expect("small records fit");
    }
    let batch = builder.build(producer).expect("there are records");
    let header = BatchHeader::parse(&batch).expect("a built batch has a header");
    Append { batch, header, expected_next_lsn: None, fence: None, position: None }
}
