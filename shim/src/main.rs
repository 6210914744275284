//! The CNI plugin `hopscope`: environment and standard input in, the daemon's answer out.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use shim::fault::{Code, Fault};
use shim::proto::{MESSAGE_MAX, Response};
use shim::{plugin, version};

fn main() -> ExitCode {
    let response = match variables() {
        Ok(environment) => plugin::run(environment, stdin),
        Err(fault) => fault.response(version::LATEST),
    };
    let Response { stdout, stderr, exit } = response;
    let printed = io::stdout()
        .write_all(stdout.as_bytes())
        .and_then(|()| io::stdout().flush())
        .and_then(|()| io::stderr().write_all(stderr.as_bytes()));
    // A runtime that does not read the answer must not take it for success.
    if printed.is_ok() { ExitCode::from(exit) } else { ExitCode::FAILURE }
}

/// All `CNI_*` variables.
fn variables() -> Result<BTreeMap<String, String>, Fault> {
    let mut environment = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("CNI_")) else { continue };
        let Some(value) = value.to_str() else {
            let msg = format!("{name}={value:?} is not UTF-8");
            return Err(Fault::new(Code::InvalidEnvironment, msg));
        };
        environment.insert(name.to_owned(), value.to_owned());
    }
    Ok(environment)
}

fn stdin() -> io::Result<String> {
    let mut text = String::new();
    let bytes = io::stdin().take(u64::from(MESSAGE_MAX)).read_to_string(&mut text)?;
    if bytes >= usize::try_from(MESSAGE_MAX).unwrap_or(usize::MAX) {
        let text = format!("the network configuration has {MESSAGE_MAX} bytes or more");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(text)
}
