//! What a consumer makes of a payload from a broker.

use bytes::{Bytes, BytesMut};
use lockstep_client::sans_io::Position;
use lockstep_protocol::{BatchBuilder, ProducerSequence, Record, stamp};

use super::super::choices::Choices;

/// Payloads of one partition, one after the other: made-up ones, and real batches at any LSN.
pub fn payloads(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut position = Position { partition: 0, next_lsn: 1 + choices.number() % (1 << 62) };
    let mut restarted = true;
    for _ in 0..8 {
        if choices.is_empty() {
            break;
        }
        let before = position.next_lsn;
        let payload = if choices.flag() { choices.bytes(600) } else { real(&mut choices, before) };
        let Ok(batches) = position.take(payload, restarted, u64::MAX) else { break };
        let mut next = before;
        for batch in &batches {
            for record in batch.records() {
                let Ok(record) = record else { return };
                assert_eq!(record.lsn, next, "every record comes once, in order");
                next += 1;
            }
        }
        assert_eq!(next, position.next_lsn, "what was taken was shown");
        restarted = choices.flag();
    }
}

/// Real batches, beginning near `next_lsn`, with a byte changed here and there.
fn real(choices: &mut Choices, next_lsn: u64) -> Bytes {
    let mut payload = BytesMut::new();
    let mut first = (next_lsn + 2).saturating_sub(choices.below(4)).max(1);
    for _ in 0..1 + choices.below(3) {
        let records = 1 + choices.below(4);
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            builder.push(&Record::new(choices.number() as i64, choices.bytes(20))).expect("a small record");
        }
        let mut batch = BytesMut::from(&builder.build(ProducerSequence::NONE).expect("records")[..]);
        stamp(&mut batch, first, 1).expect("a whole batch");
        if choices.byte() > 200 {
            let at = choices.below(batch.len() as u64) as usize;
            batch[at] ^= choices.byte();
        }
        payload.extend_from_slice(&batch);
        first += records + u64::from(choices.byte() > 200);
    }
    payload.freeze()
}
