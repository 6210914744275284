//! Documents: one heading of the first order, and links that lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use crate::tree::{File, files, none, root};

/// Lines outside of fenced code.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line));
        }
    }
    lines
}

/// A heading's anchor: lower case, spaces to hyphens, punctuation gone.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    words
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    prose(text).iter().filter(|(_, line)| line.starts_with('#')).map(|(_, l)| anchor(l)).collect()
}

/// Targets of `[text](target)`, code spans left out.
fn links(line: &str) -> Vec<String> {
    let spoken: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
    spoken
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split(' ').next().unwrap_or(target).to_owned())
        .collect()
}

fn documents() -> Vec<File> {
    files().into_iter().filter(File::is_markdown).collect()
}

#[test]
fn a_document_has_one_title() {
    let mut found = Vec::new();
    for file in documents() {
        let prose = prose(&file.text);
        let titles = prose.iter().filter(|(_, line)| line.starts_with("# ")).count();
        let first = prose.iter().find(|(_, line)| !line.trim().is_empty());
        if titles != 1 {
            found.push(format!("{}: {titles} headings of the first order", file.path));
        } else if !first.is_some_and(|(_, line)| line.starts_with("# ")) {
            found.push(format!("{}: the title is not its first line", file.path));
        }
    }
    none("a document has one title, and begins with it:", &found);
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for file in documents() {
        let folder = root().join(&file.path);
        let folder = folder.parent().expect("a file lies in a folder");
        for (number, line) in prose(&file.text) {
            for link in links(line) {
                if let Some(problem) = broken(&file, folder, &link) {
                    found.push(format!("{}:{number}: {link}: {problem}", file.path));
                }
            }
        }
    }
    none("relative links of documents resolve:", &found);
}

fn broken(file: &File, folder: &Path, link: &str) -> Option<&'static str> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
    let target = folder.join(path);
    if !path.is_empty() && !target.exists() {
        return Some("no such file");
    }
    if fragment.is_empty() || !(path.is_empty() || path.ends_with(".md")) {
        return None;
    }
    let text = if path.is_empty() {
        file.text.clone()
    } else {
        std::fs::read_to_string(target).unwrap_or_default()
    };
    (!anchors(&text).contains(fragment)).then_some("no such heading")
}

#[test]
fn links_and_anchors_are_understood() {
    assert_eq!(links("see [a](b.md#c) and [d](e \"title\"), not `[x](y)`"), ["b.md#c", "e"]);
    assert_eq!(anchor("## The life of a frame: `walk()`"), "the-life-of-a-frame-walk");
    assert_eq!(prose("a\n```\n# no\n```\nb"), [(1, "a"), (5, "b")]);
}
