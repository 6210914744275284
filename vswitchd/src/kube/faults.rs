//! Faults of single objects, collected: each is refused for itself, and the others stay in force.

use std::collections::BTreeMap;

use super::objects::{ObjectError, fault};

/// Faults of one object that are told; who mends these sees the rest.
const OF_ONE_MAX: usize = 8;

/// Faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    told: Vec<ObjectError>,
    /// How many each object has.
    counts: BTreeMap<String, usize>,
}

impl Faults {
    /// Adds one.
    pub(super) fn add(&mut self, object: &str, field: impl AsRef<str>, why: impl Into<String>) {
        self.push(fault(object, field.as_ref(), why));
    }

    /// Adds one that is made already.
    pub(super) fn push(&mut self, error: ObjectError) {
        let count = self.counts.entry(error.object.clone()).or_default();
        *count += 1;
        if *count <= OF_ONE_MAX {
            self.told.push(error);
        }
    }

    /// All of them, in the order in which they were found; of an object with many the first ones.
    pub(super) fn finish(self) -> Vec<ObjectError> {
        let Self { mut told, counts } = self;
        for (object, count) in counts {
            if let Some(more @ 1..) = count.checked_sub(OF_ONE_MAX) {
                told.push(fault(&object, "and others", format!("{more} more faults like these")));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_faults_the_first_are_told_and_the_rest_counted() {
        let mut faults = Faults::default();
        (0..11).for_each(|at| faults.add("EndpointSlice a/b", format!("endpoints[{at}]"), "no"));
        faults.add("Service a/b", "spec.ports", "empty");
        let told: Vec<String> = faults.finish().iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 10);
        assert_eq!(told[7], "EndpointSlice a/b: endpoints[7]: no");
        assert_eq!(told[8], "Service a/b: spec.ports: empty");
        assert_eq!(told[9], "EndpointSlice a/b: and others: 3 more faults like these");
    }
}
