//! A rule that did not hold.

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name, which stays.
    pub rule: &'static str,
    /// What was seen, for people.
    pub message: String,
}

/// Whether a rule holds.
pub type Checked = Result<(), Violation>;

/// A rule that does not.
pub(crate) fn breach(rule: &'static str, message: String) -> Checked {
    Err(Violation { rule, message })
}
