//! Broker addresses, as people write them.

use crate::error::ConnectError;

/// What [`Client::connect`](crate::Client::connect) accepts as addresses: one string with commas, or many
/// strings.
pub trait Addresses {
    /// The addresses as written, `host:port` each, not yet checked.
    fn to_list(&self) -> Vec<String>;
}

impl Addresses for str {
    fn to_list(&self) -> Vec<String> {
        self.split(',')
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.is_empty())
            .collect()
    }
}

impl Addresses for String {
    fn to_list(&self) -> Vec<String> {
        self.as_str().to_list()
    }
}

impl<T: AsRef<str>> Addresses for [T] {
    fn to_list(&self) -> Vec<String> {
        self.iter().flat_map(|addresses| addresses.as_ref().to_list()).collect()
    }
}

impl<T: AsRef<str>, const N: usize> Addresses for [T; N] {
    fn to_list(&self) -> Vec<String> {
        self.as_slice().to_list()
    }
}

impl<T: AsRef<str>> Addresses for Vec<T> {
    fn to_list(&self) -> Vec<String> {
        self.as_slice().to_list()
    }
}

impl<A: Addresses + ?Sized> Addresses for &A {
    fn to_list(&self) -> Vec<String> {
        (**self).to_list()
    }
}

/// Checks that there is at least one address and that each is `host:port`.
pub(crate) fn checked(addresses: &(impl Addresses + ?Sized)) -> Result<Vec<String>, ConnectError> {
    let list = addresses.to_list();
    if list.is_empty() {
        return Err(ConnectError::NoAddress);
    }
    for address in &list {
        let valid = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !valid {
            return Err(ConnectError::InvalidAddress { address: address.clone() });
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_string_with_commas_and_many_strings_mean_the_same() {
        let expected = ["a:1".to_owned(), "b:2".to_owned()];
        assert_eq!(checked("a:1, b:2,").unwrap(), expected);
        assert_eq!(checked(&["a:1", "b:2"]).unwrap(), expected);
        assert_eq!(checked(&vec!["a:1,b:2".to_owned()]).unwrap(), expected);
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        assert!(matches!(checked(""), Err(ConnectError::NoAddress)));
        for wrong in ["a", "a:", ":1", "a:0", "a:70000", "a:b"] {
            let refused = checked(wrong);
            assert!(
                matches!(&refused, Err(ConnectError::InvalidAddress { address }) if address == wrong),
                "{wrong}: {refused:?}"
            );
        }
    }
}
