//! What holds for every native message.
