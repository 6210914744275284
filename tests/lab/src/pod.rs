//! A pod: a network namespace, wired by the real plugin, and its command.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cni::{Attachment, Runtime, VERSION};
use crate::process::Process;
use crate::{Context, Error, Namespace, Result, binaries};

/// Time a server inside may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// A pod. It derefs to its namespace; dropping it unwires it first, as a runtime does.
#[derive(Debug)]
pub struct Pod {
    netns: Namespace,
    runtime: Runtime,
    attachment: Attachment,
    result: Value,
    wired: bool,
}

impl Deref for Pod {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.netns
    }
}

impl Pod {
    /// Wires a namespace as the pod `namespace/name` by ADD.
    ///
    /// `extra` are keys of the plugin's configuration beside the standard ones.
    ///
    /// # Errors
    /// The plugin's.
    pub fn wire(
        netns: Namespace,
        runtime: Runtime,
        (namespace, name): (&str, &str),
        extra: &BTreeMap<String, Value>,
    ) -> Result<Self> {
        let attachment = Attachment {
            container_id: netns.name().to_owned(),
            netns: netns.path().to_string_lossy().into_owned(),
            ifname: "eth0".to_owned(),
            pod: (namespace.to_owned(), name.to_owned()),
        };
        let mut configuration = runtime.configuration(VERSION);
        if let Some(object) = configuration.as_object_mut() {
            object.extend(extra.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        let result = runtime.add(&attachment, &configuration)?;
        Ok(Self { netns, runtime, attachment, result, wired: true })
    }

    /// `NAMESPACE/NAME`, as hopctl takes it.
    pub fn reference(&self) -> String {
        let (namespace, name) = &self.attachment.pod;
        format!("{namespace}/{name}")
    }

    /// What ADD printed.
    pub fn result(&self) -> &Value {
        &self.result
    }

    /// The attachment as the runtime knows it.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Its addresses, in the order of the result.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.result.get("ips").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        ips.iter()
            .filter_map(|ip| ip.get("address")?.as_str()?.split('/').next()?.parse().ok())
            .collect()
    }

    /// Its IPv4 address.
    ///
    /// # Errors
    /// When the result has none.
    pub fn v4(&self) -> Result<Ipv4Addr> {
        let found = self.addresses().into_iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        found.ok_or_else(|| Error::new(format!("{} has no IPv4 address", self.reference())))
    }

    /// Its IPv6 address.
    ///
    /// # Errors
    /// When the result has none.
    pub fn v6(&self) -> Result<Ipv6Addr> {
        let found = self.addresses().into_iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        found.ok_or_else(|| Error::new(format!("{} has no IPv6 address", self.reference())))
    }

    /// The MAC of its interface, as the kernel has it.
    ///
    /// # Errors
    /// When the interface is missing.
    pub fn mac(&self) -> Result<String> {
        self.link("address").map(|mac| mac.trim_matches('"').to_owned())
    }

    /// The MTU of its interface in bytes, as the kernel has it.
    ///
    /// # Errors
    /// When the interface is missing.
    pub fn mtu(&self) -> Result<u32> {
        self.link("mtu")?.parse().context("mtu")
    }

    /// One field of `ip -json link show` for its interface.
    fn link(&self, field: &str) -> Result<String> {
        let text = self.netns.ip(&["-json", "link", "show", &self.attachment.ifname])?;
        let links: Value = serde_json::from_str(&text).context("ip -json")?;
        links
            .pointer(&format!("/0/{field}"))
            .map(Value::to_string)
            .ok_or_else(|| Error::new(format!("{}: no {field}", self.reference())))
    }

    /// Runs one of the lab's programs inside to its end; it must succeed.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn lab(&self, args: &[&str]) -> Result<String> {
        lab_run(&self.netns, args)
    }

    /// Starts one of the lab's servers inside and waits until it is ready.
    ///
    /// # Errors
    /// When it ends before that, or is not ready in time.
    pub fn serve(&self, args: &[&str]) -> Result<Process> {
        lab_serve(&self.netns, args)
    }

    /// CHECK.
    ///
    /// # Errors
    /// What the plugin found to differ.
    pub fn check(&self) -> Result<()> {
        self.runtime.check(&self.attachment, &self.result)
    }

    /// DEL, then removes the namespace.
    ///
    /// # Errors
    /// The plugin's.
    pub fn remove(mut self) -> Result<()> {
        self.wired = false;
        self.runtime.del(&self.attachment, Some(&self.result))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.wired {
            // The daemon may be gone by now, and the namespace takes the interface with it.
            drop(self.runtime.del(&self.attachment, Some(&self.result)));
        }
    }
}

/// Runs one of the lab's programs in a namespace to its end, within a minute; it must succeed.
///
/// # Errors
/// As [`Namespace::run`].
pub fn lab_run(netns: &Namespace, args: &[&str]) -> Result<String> {
    let program = binaries::lab()?;
    let output = netns.attempt(&program.to_string_lossy(), args, Duration::from_secs(60))?;
    output.success().map(|output| output.stdout)
}

/// Starts one of the lab's servers in a namespace and waits until it is ready.
///
/// # Errors
/// When it ends before that, or is not ready in time.
pub fn lab_serve(netns: &Namespace, args: &[&str]) -> Result<Process> {
    let mut command = Command::new(binaries::lab()?);
    command.args(args);
    let mut process = netns.spawn(command)?;
    process.wait_ready(READY_TIMEOUT)?;
    Ok(process)
}
