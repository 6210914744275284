//! Reference counts and their comparison. The file holds them by processor architecture: another
//! one needs other instructions.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Instructions by the name of the case.
pub type Counts = BTreeMap<String, u64>;
/// What goes wrong is told, once, and ends the run.
pub type Fallible<T> = Result<T, Box<dyn Error>>;

/// The architecture this was built for.
const ARCHITECTURE: &str = std::env::consts::ARCH;

/// Reads the references of this architecture.
///
/// # Errors
/// When the file is missing or broken, or has none.
pub fn read(file: &Path) -> Fallible<Counts> {
    let text = fs::read_to_string(file)?;
    let all: Value = serde_json::from_str(&text)?;
    let own = all.get(ARCHITECTURE).and_then(Value::as_object).ok_or_else(|| {
        format!("no reference counts for {ARCHITECTURE}: make them with `-- --regenerate`")
    })?;
    own.iter()
        .map(|(case, count)| {
            let count = count.as_u64().ok_or_else(|| format!("{case}: {count} is no count"))?;
            Ok((case.clone(), count))
        })
        .collect()
}

/// Replaces the references of this architecture.
///
/// # Errors
/// When the file is broken or cannot be written.
pub fn write(file: &Path, counts: &Counts) -> Fallible<()> {
    let mut all: Map<String, Value> = match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_missing) => Map::new(),
    };
    all.insert(ARCHITECTURE.to_owned(), json!(counts));
    fs::write(file, serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}

/// Counts beside their references.
#[derive(Debug)]
pub struct Comparison {
    tolerance_percent: u64,
    /// Case, reference, count.
    rows: Vec<(String, u64, u64)>,
}

/// Compares.
///
/// # Errors
/// When the two do not have the same cases.
pub fn compare(
    reference: &Counts,
    counted: &Counts,
    tolerance_percent: u64,
) -> Fallible<Comparison> {
    let missing = |from: &Counts, of: &Counts| -> Vec<String> {
        of.keys().filter(|case| !from.contains_key(*case)).cloned().collect()
    };
    let (unknown, gone) = (missing(reference, counted), missing(counted, reference));
    if !unknown.is_empty() || !gone.is_empty() {
        return Err(format!(
            "instructions.json lacks {unknown:?} and has {gone:?} in excess: `-- --regenerate`"
        )
        .into());
    }
    let rows = reference
        .iter()
        .filter_map(|(case, reference)| Some((case.clone(), *reference, *counted.get(case)?)))
        .collect();
    Ok(Comparison { tolerance_percent, rows })
}

impl Comparison {
    /// Whether no case is above its reference by more than the tolerance.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.rows.iter().all(|row| self.fits(row))
    }

    fn fits(&self, (_, reference, counted): &(String, u64, u64)) -> bool {
        // A division would round.
        u128::from(*counted) * 100
            <= u128::from(*reference) * u128::from(100 + self.tolerance_percent)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24} {:>9} {:>9} {:>8}", "instructions", "reference", "now", "change")?;
        for row in &self.rows {
            let (case, reference, counted) = row;
            let change = (*counted as f64 / *reference as f64 - 1.0) * 100.0;
            let word = if self.fits(row) { "" } else { "  TOO MANY" };
            writeln!(f, "{case:24} {reference:>9} {counted:>9} {change:>+7.1}%{word}")?;
        }
        if !self.passes() {
            writeln!(
                f,
                "more than {} % above the reference; if worth it: `-- --regenerate`, and commit",
                self.tolerance_percent
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect()
    }

    #[test]
    fn two_per_cent_more_pass_and_no_instruction_above() {
        let reference = counts(&[("walk", 1_000), ("parse", 500)]);
        let passes = |walk, parse| {
            let counted = counts(&[("walk", walk), ("parse", parse)]);
            compare(&reference, &counted, 2).unwrap().passes()
        };
        assert!(passes(1_000, 500) && passes(1_020, 510) && passes(10, 10));
        assert!(!passes(1_021, 500));
        assert!(!passes(10, 511), "one case does not pay for another");
    }

    #[test]
    fn cases_that_came_or_went_are_told() {
        let (one, other) = (counts(&[("walk", 1)]), counts(&[("parse", 1)]));
        let error = compare(&one, &other, 2).unwrap_err().to_string();
        assert!(error.contains("lacks [\"parse\"]") && error.contains("has [\"walk\"]"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_and_other_architectures_stay() {
        let name = format!("hopscope-counts-{}.json", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, r#"{"pdp11": {"walk": 7}}"#).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("--regenerate"));
        let counted = counts(&[("walk", 1_000)]);
        write(&file, &counted).unwrap();
        assert_eq!(read(&file).unwrap(), counted);
        assert!(fs::read_to_string(&file).unwrap().contains("pdp11"));
        fs::remove_file(&file).unwrap();
    }
}
