//! The `CNI_*` variables, checked as the reference skeleton does (pkg/skel and pkg/utils of
//! containernetworking/cni): which verb needs which, and what identifiers look like. No path may be
//! built from an identifier that did not pass here (SEC-20).

use std::collections::BTreeMap;

use crate::fault::{Code, Fault};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Is it still attached as it was?
    Check,
    /// Remove what no container needs.
    Gc,
    /// Would an ADD work?
    Status,
    /// Which versions?
    Version,
}

/// The variables of one request; empty where the verb needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// CNI_COMMAND.
    pub verb: Verb,
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_NETNS.
    pub netns: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// CNI_ARGS, as given.
    pub args: String,
}

const VERBS: [(&str, Verb); 6] = [
    ("ADD", Verb::Add),
    ("DEL", Verb::Del),
    ("CHECK", Verb::Check),
    ("GC", Verb::Gc),
    ("STATUS", Verb::Status),
    ("VERSION", Verb::Version),
];

impl Verb {
    /// The value of CNI_COMMAND.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

impl Environment {
    /// Reads and checks them.
    ///
    /// # Errors
    /// Code 4; all missing variables in one message.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let value = |name: &str| variables.get(name).cloned().unwrap_or_default();
        let command = value("CNI_COMMAND");
        let Some((_, verb)) = VERBS.iter().find(|(name, _)| *name == command) else {
            let msg = if command.is_empty() {
                "required environment variables are missing: CNI_COMMAND".to_owned()
            } else {
                format!(
                    "CNI_COMMAND={command:?} is no verb; it is one of ADD, DEL, CHECK, GC, \
                     STATUS, VERSION"
                )
            };
            return Err(Fault::new(Code::InvalidEnvironment, msg));
        };
        let missing: Vec<&str> =
            verb.required().iter().copied().filter(|name| value(name).is_empty()).collect();
        if !missing.is_empty() {
            let msg = format!("required environment variables are missing: {}", missing.join(", "));
            return Err(Fault::new(Code::InvalidEnvironment, msg));
        }
        let read = Self {
            verb: *verb,
            container_id: value("CNI_CONTAINERID"),
            netns: value("CNI_NETNS"),
            ifname: value("CNI_IFNAME"),
            args: value("CNI_ARGS"),
        };
        if matches!(verb, Verb::Add | Verb::Del | Verb::Check) {
            check_container_id(&read.container_id)?;
            check_ifname(&read.ifname)?;
        }
        Ok(read)
    }
}

/// Whether `text` is an identifier: a letter or digit, then letters, digits, `_`, `.`, `-`.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Checks a container id.
///
/// # Errors
/// Code 4.
pub fn check_container_id(id: &str) -> Result<(), Fault> {
    if is_identifier(id) {
        return Ok(());
    }
    let msg = format!(
        "CNI_CONTAINERID={id:?} has invalid characters; it begins with a letter or digit and goes \
         on with letters, digits, '_', '.', '-'"
    );
    Err(Fault::new(Code::InvalidEnvironment, msg))
}

/// Checks an interface name.
///
/// # Errors
/// Code 4.
pub fn check_ifname(name: &str) -> Result<(), Fault> {
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() > 15 {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "is '.' or '..'"
    } else if name.contains(['/', ':', '\0']) || name.contains(char::is_whitespace) {
        "has a '/', ':' or white space in it"
    } else if name.contains('%') {
        // The kernel takes `eth%d` for a pattern and makes `eth0`, which nobody would find again.
        "has a '%' in it, which the kernel replaces by a number"
    } else {
        return Ok(());
    };
    Err(Fault::new(Code::InvalidEnvironment, format!("CNI_IFNAME={name:?} {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn all_missing_ones_are_named_at_once() {
        let none = |verb| Environment::read(&variables(&[("CNI_COMMAND", verb)])).unwrap_err().msg;
        let all = "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH";
        assert!(none("ADD").ends_with(all));
        assert!(none("CHECK").ends_with(all));
        assert!(none("DEL").ends_with("missing: CNI_CONTAINERID, CNI_IFNAME, CNI_PATH"));
        assert!(none("GC").ends_with("missing: CNI_PATH"));
        assert!(none("STATUS").ends_with("missing: CNI_PATH"));
        assert!(none("LIST").contains("\"LIST\" is no verb"));
        assert!(none("").ends_with("missing: CNI_COMMAND"));
    }

    #[test]
    fn identifiers_follow_the_reference() {
        for good in ["a", "0", "a-b_c.d", "cni-0123"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "../x", "a b", "ä", "a\n"] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }

    #[test]
    fn ifnames_follow_the_kernel() {
        for good in ["eth0", "a.b", "...", "exactly15bytes_"] {
            assert!(check_ifname(good).is_ok(), "{good}");
        }
        for bad in
            ["", "sixteen_bytes_xx", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u{a0}b", "eth%d"]
        {
            assert_eq!(check_ifname(bad).unwrap_err().code, Code::InvalidEnvironment, "{bad:?}");
        }
    }
}
