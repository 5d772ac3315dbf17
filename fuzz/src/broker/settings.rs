//! The configuration file.

use lockstep::config::Config;

use super::super::allocation::within;

/// What a byte of TOML may take: a dotted key is a table for each two bytes. The file is the operator's own.
const BYTES_PER_BYTE: usize = 1 << 10;
/// And the defaults, an error's text.
const ALLOWANCE_BYTES: usize = 64 << 10;

/// Any text; what is taken, reads back from what it is in force as.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match within(ALLOWANCE_BYTES + BYTES_PER_BYTE * text.len(), || Config::from_toml(text)) {
        Ok(config) => {
            let effective = config.effective();
            assert_eq!(Config::from_toml(&effective).ok(), Some(config), "{effective}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
