//! Calls of the CNI plugin, exactly as a runtime makes them: environment and standard input,
//! nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Output, Process};
use crate::run::Run;
use crate::{Context, Error, Result};

/// Version of the specification that pods are wired with.
pub const VERSION: &str = "1.1.0";
/// Time a runtime would give the plugin.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One attachment, as the runtime knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The sandbox's id.
    pub container_id: String,
    /// Path of the network namespace; empty when it is gone.
    pub netns: String,
    /// Name of the interface inside.
    pub ifname: String,
    /// The pod's namespace and name.
    pub pod: (String, String),
}

impl Attachment {
    /// The environment of a call, `CNI_ARGS` as containerd writes them.
    pub fn environment(&self, verb: &str) -> BTreeMap<String, String> {
        let (namespace, name) = &self.pod;
        let args = format!(
            "K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id};\
             K8S_POD_UID={id};IgnoreUnknown=1",
            id = self.container_id
        );
        [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", &self.container_id),
            ("CNI_NETNS", &self.netns),
            ("CNI_IFNAME", &self.ifname),
            ("CNI_ARGS", &args),
            ("CNI_PATH", "/opt/cni/bin"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }
}

/// A runtime on one node: where the plugin is and which daemon it speaks to.
#[derive(Debug, Clone)]
pub struct Runtime {
    plugin: PathBuf,
    socket: PathBuf,
    run: Arc<Run>,
}

impl Runtime {
    /// A runtime with that plugin, whose daemon listens on that socket.
    pub fn new(run: &Arc<Run>, plugin: &Path, socket: &Path) -> Self {
        Self { plugin: plugin.to_owned(), socket: socket.to_owned(), run: Arc::clone(run) }
    }

    /// The plugin's configuration at that version of the specification.
    pub fn configuration(&self, version: &str) -> Value {
        json!({
            "cniVersion": version,
            "name": "hopscope",
            "type": "hopscope",
            "socket": self.socket,
        })
    }

    /// Runs the plugin with exactly this environment and standard input.
    ///
    /// # Errors
    /// When it cannot be started or hangs. An exit status other than 0 is none.
    pub fn call(&self, environment: &BTreeMap<String, String>, stdin: &str) -> Result<Output> {
        let input = self.run.fresh_path("cni.stdin");
        fs::write(&input, stdin).context(input.display())?;
        let mut command = Command::new(&self.plugin);
        let (mark, owner) = self.run.mark();
        command
            .env_clear()
            .envs(environment)
            .env(mark, owner)
            .stdin(File::open(&input).context(input.display())?);
        let verb = environment.get("CNI_COMMAND").map_or("without a verb", String::as_str);
        let output = Process::start(&self.run, verb, command)?.finish(TIMEOUT);
        drop(fs::remove_file(&input));
        output
    }

    /// ADD; gives back the result that the plugin printed.
    ///
    /// # Errors
    /// The plugin's, as it printed it.
    pub fn add(&self, attachment: &Attachment, configuration: &Value) -> Result<Value> {
        let output =
            self.call(&attachment.environment("ADD"), &configuration.to_string())?.success()?;
        serde_json::from_str(&output.stdout).context(format!("{}: result", output.what))
    }

    /// DEL with the cached result, as a runtime does it.
    ///
    /// # Errors
    /// The plugin's: a DEL always succeeds, unless the configuration is wrong.
    pub fn del(&self, attachment: &Attachment, result: Option<&Value>) -> Result<()> {
        self.with_result("DEL", attachment, result)
    }

    /// CHECK with the cached result.
    ///
    /// # Errors
    /// What the plugin found to differ.
    pub fn check(&self, attachment: &Attachment, result: &Value) -> Result<()> {
        self.with_result("CHECK", attachment, Some(result))
    }

    fn with_result(&self, verb: &str, of: &Attachment, result: Option<&Value>) -> Result<()> {
        let mut configuration = self.configuration(VERSION);
        if let (Some(object), Some(result)) = (configuration.as_object_mut(), result) {
            object.insert("prevResult".to_owned(), result.clone());
        }
        self.call(&of.environment(verb), &configuration.to_string())?.success().map(drop)
    }
}

/// The error object that a plugin printed instead of a result: its code and message.
///
/// # Errors
/// When what it printed is no such object.
pub fn error_of(output: &Output) -> Result<(u64, String)> {
    let object: Value = serde_json::from_str(&output.stdout)
        .context(format!("{}: {:?} is no error object", output.what, output.stdout))?;
    let code = object.get("code").and_then(Value::as_u64);
    let message = object.get("msg").and_then(Value::as_str);
    code.zip(message)
        .map(|(code, message)| (code, message.to_owned()))
        .ok_or_else(|| Error::new(format!("{}: code and msg are missing: {object}", output.what)))
}
