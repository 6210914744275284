//! Versions of the CNI specification that are understood.

/// All of them, oldest first.
pub const SUPPORTED: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// The newest: what errors carry when the configuration's own cannot be told.
pub const LATEST: &str = "1.1.0";
/// What a configuration without `cniVersion` means.
pub const UNSPECIFIED: &str = "0.1.0";

/// Whether results of this version can be made.
#[must_use]
pub fn is_supported(version: &str) -> bool {
    SUPPORTED.contains(&version)
}

/// The answer to VERSION. Standard input does not matter for it.
#[must_use]
pub fn answer() -> String {
    let list = serde_json::json!({ "cniVersion": LATEST, "supportedVersions": SUPPORTED });
    format!("{list}\n")
}

/// What the plugin says when it is run by hand.
#[must_use]
pub fn about() -> String {
    format!(
        "CNI plugin hopscope {}: hands each request to the node's vswitchd.\n\
         CNI versions: {}\n",
        env!("CARGO_PKG_VERSION"),
        SUPPORTED.join(", ")
    )
}
