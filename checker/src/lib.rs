//! Judges histories of a log: nothing lost, repeated, reordered, torn or invented.
