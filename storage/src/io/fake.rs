//! A simulated disk: everything in memory, and a crash keeps only what the contract promises.
