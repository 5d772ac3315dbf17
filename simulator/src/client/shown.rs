//! What readers were shown, as the checker knows it.

use lockstep_checker::{RecordId, Records};
use lockstep_client::ConsumedBatch;

/// Whose records stand in batches that the consumer accepted.
///
/// # Errors
/// A record that it cannot read.
pub fn records_of(batches: &[ConsumedBatch]) -> Result<Records, String> {
    let mut records = Records::default();
    for record in batches.iter().flat_map(ConsumedBatch::records) {
        let record = record.map_err(|error| error.to_string())?;
        let id = record.value.and_then(|value| RecordId::parse(&value));
        records.push(record.lsn, id.unwrap_or(RecordId::FOREIGN));
    }
    Ok(records)
}
