//! Variables of the environment that look like settings and are none: a mistyped one would be
//! passed over in silence.

use super::SettingsError;

/// How the names of ours begin.
const OURS: &str = "HOPSCOPE_";
/// What our own tools read or set for the programs they start: the lab, fuzzing, the simulation,
/// the benches, the poison of a test, and the name by which it has another build.
const OF_TOOLS: [&str; 6] = [
    "HOPSCOPE_LAB",
    "HOPSCOPE_FUZZ",
    "HOPSCOPE_SIM",
    "HOPSCOPE_INSTRUCTIONS",
    "HOPSCOPE_POISON",
    "HOPSCOPE_BUILD_NAME",
];
/// By this variable Kubernetes tells a pod of a Service; more of the same beginning come with it.
const SERVICE_HOST: &str = "_SERVICE_HOST";

/// Looks at the names of all variables that are set.
///
/// # Errors
/// [`SettingsError::Variable`] for the first that is none of `known` and nobody else's.
pub fn check(given: &[String], known: &[&str]) -> Result<(), SettingsError> {
    let services: Vec<&str> =
        given.iter().filter_map(|name| name.strip_suffix(SERVICE_HOST)).collect();
    let of_service = |name: &str| {
        services.iter().filter_map(|service| name.strip_prefix(service)).any(|rest| {
            rest == "_PORT" || rest.starts_with("_PORT_") || rest.starts_with("_SERVICE_")
        })
    };
    let unknown = given.iter().find(|name| {
        name.starts_with(OURS)
            && !known.contains(&name.as_str())
            && !OF_TOOLS.iter().any(|tool| name.starts_with(tool))
            && !of_service(name)
    });
    match unknown {
        None => Ok(()),
        Some(name) => Err(SettingsError::Variable { name: name.clone(), known: known.join(", ") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(given: &[&str]) -> Result<(), String> {
        let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
        check(&given, &["HOPSCOPE_MTU", "HOPSCOPE_UPLINK"]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mistyped_variable_is_named_with_those_that_exist() {
        for mistyped in ["HOPSCOPE_MTUU", "HOPSCOPE_", "HOPSCOPE_PORT", "HOPSCOPE_mtu"] {
            let said = verdict(&["PATH", "HOPSCOPE_MTU", mistyped]).unwrap_err();
            assert!(said.starts_with(&format!("{mistyped} in the environment")), "{said}");
            assert!(said.contains("HOPSCOPE_MTU, HOPSCOPE_UPLINK"), "{said}");
        }
    }

    #[test]
    fn what_tools_and_kubernetes_set_is_passed_over() {
        verdict(&["HOPSCOPE_LAB", "HOPSCOPE_FUZZ_SECONDS", "HOPSCOPE_SIM_SEED"]).unwrap();
        verdict(&["HOPSCOPE_MTU", "HOPSCOPE", "XHOPSCOPE_MTUU"]).unwrap();
        // Of a Service `hopscope` in the daemon's namespace, and of `hopscope-metrics`.
        verdict(&[
            "HOPSCOPE_SERVICE_HOST",
            "HOPSCOPE_SERVICE_PORT",
            "HOPSCOPE_PORT",
            "HOPSCOPE_PORT_80_TCP_ADDR",
            "HOPSCOPE_METRICS_SERVICE_HOST",
            "HOPSCOPE_METRICS_SERVICE_PORT_HTTP",
            "HOPSCOPE_METRICS_PORT",
        ])
        .unwrap();
        verdict(&["HOPSCOPE_METRICS_SERVICE_HOST", "HOPSCOPE_MTUU"]).unwrap_err();
    }
}
