//! Real brokers on real file systems, and real power cuts.
