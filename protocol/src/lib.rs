//! Lockstep's wire formats, and nothing but them: no IO, no clock, no runtime.
//!
//! What holds in every module:
//!
//! - A decoder never panics and never trusts: each declared length or count is checked against the bytes
//!   that are there before anything is allocated for it.
//! - Decoding what was encoded gives the same value back, and every cut-off prefix is refused.
//! - Payload is passed by reference ([`bytes::Bytes`]): a record batch is the same bytes from the producer's
//!   socket to the consumer's.
//! - Each error is typed and its message names the fix.
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | integers, strings, lists: how one value becomes bytes |
//! | [`frame`], [`encoded_frame`], [`frame_lengths`] | the native frame: length, checksum, correlation, message, payload |
//! | [`native`] | the messages inside, one file per family |
//! | [`error_code`], [`outcome`] | stable error codes and how an answer carries them |
//! | [`batch`], [`batch_builder`], [`record`], [`mod@validate`] | Kafka's record batch v2 |
//! | [`peer`] | what brokers say to each other |
//!
//! The same is drawn for implementers in other languages in `docs/wire-protocol.md`.

pub mod batch;
pub mod batch_builder;
pub mod encoded_frame;
pub mod error_code;
pub mod frame;
pub mod frame_lengths;
pub mod native;
pub mod outcome;
pub mod peer;
pub mod record;
pub mod validate;
pub mod wire;

mod varint;

#[cfg(test)]
mod drawing;
#[cfg(test)]
mod generate;

pub use batch::{BatchHeader, Batches, stamp};
pub use batch_builder::{BatchBuilder, ProducerSequence};
pub use encoded_frame::EncodedFrame;
pub use error_code::ErrorCode;
pub use frame::{Frame, FrameDecoder, FrameError, FrameKind, PROTOCOL_VERSION, ReplyTo};
pub use frame_lengths::LengthError;
pub use native::{Api, Message, Request};
pub use outcome::{ErrorOutcome, LeaderHint, Outcome};
pub use record::{NumberedRecord, Record, RecordHeader, RecordIter};
pub use validate::{BatchError, ValidatedBatch, ValidationLimits, validate};
pub use wire::{DecodeError, Wire};
