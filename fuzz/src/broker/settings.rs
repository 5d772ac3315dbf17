//! The configuration file.

use lockstep::config::Config;

use super::super::allocation::within_size_class;

/// Any text; what is taken, reads back from what it is in force as.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match within_size_class(8 * text.len() + 4096, || Config::from_toml(text)) {
        Ok(config) => {
            let effective = config.effective();
            assert_eq!(Config::from_toml(&effective).ok(), Some(config), "{effective}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
