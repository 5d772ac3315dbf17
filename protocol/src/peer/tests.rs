//! What holds for every peer message.
