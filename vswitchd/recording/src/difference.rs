//! What differs between two states, as lines of their dumps.

/// Lines that only one of two dumps has: `-` the first, `+` the second, each side in its order, at
/// most `most` of them and then how many more.
#[must_use]
pub fn lines(before: &str, after: &str, most: usize) -> Vec<String> {
    let gone = only(before, after).map(|line| format!("- {line}"));
    let come = only(after, before).map(|line| format!("+ {line}"));
    let mut all: Vec<String> = gone.chain(come).collect();
    let more = all.len().saturating_sub(most);
    if more > 0 {
        all.truncate(most);
        all.push(format!("and {more} lines more"));
    }
    all
}

/// Lines of `one` that `other` has not, or has fewer of.
fn only<'a>(one: &'a str, other: &'a str) -> impl Iterator<Item = &'a str> {
    let mut known: Vec<&str> = other.lines().collect();
    known.sort_unstable();
    let mut used = vec![false; known.len()];
    one.lines().filter(move |line| {
        let first = known.partition_point(|other| other < line);
        let mut same = known.iter().zip(used.iter_mut()).skip(first);
        let free = same.find_map(|(other, used)| match other == line {
            true if !*used => Some(Some(used)),
            true => None,
            false => Some(None),
        });
        match free.flatten() {
            Some(used) => {
                *used = true;
                false
            }
            None => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn what_only_one_has_is_told() {
        assert_eq!(lines("a\nb\nc", "a\nc", 9), ["- b"]);
        assert_eq!(lines("a 1\nb", "a 2\nb", 9), ["- a 1", "+ a 2"]);
        assert_eq!(lines("a\na", "a\na\na", 9), ["+ a"]);
        assert_eq!(lines("", "", 9), [""; 0]);
        assert_eq!(lines("a\nb\nc", "", 1), ["- a", "and 2 lines more"]);
    }
}
