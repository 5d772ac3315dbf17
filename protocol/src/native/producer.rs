//! Producer ids: who may ask for "exactly once".

use crate::wire::wire_fields;

/// Asks for an id no other producer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerRequest {}

wire_fields!(InitProducerRequest {});

/// A producer's identity, for the header of each batch (Kafka's KIP-98 has the idea). The sequence starts at
/// 0 in each partition and grows by one per record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProducerResponse {
    /// The id, ≥ 0.
    pub producer_id: i64,
    /// Its epoch; a greater one shuts out the smaller.
    pub epoch: i16,
}

wire_fields!(InitProducerResponse { producer_id, epoch });
