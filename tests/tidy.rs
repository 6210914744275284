//! Rules of the tree, as a test: what a reviewer would otherwise have to say again and again.
//!
//! `LAB_REGEN=1 cargo test -p tests --test tidy` rewrites generated tables instead of comparing.
//! Each rule collects every offence before it fails: one run shows all there is to mend.

#[cfg(test)]
#[path = "tidy/arrows.rs"]
mod arrows;
#[cfg(test)]
#[path = "tidy/dependencies.rs"]
mod dependencies;
#[cfg(test)]
#[path = "tidy/differences.rs"]
mod differences;
#[cfg(test)]
#[path = "tidy/drops.rs"]
mod drops;
#[cfg(test)]
#[path = "tidy/generated.rs"]
mod generated;
#[cfg(test)]
#[path = "tidy/markdown.rs"]
mod markdown;
#[cfg(test)]
#[path = "tidy/requirements.rs"]
mod requirements;
#[cfg(test)]
#[path = "tidy/source.rs"]
mod source;
#[cfg(test)]
#[path = "tidy/tree.rs"]
mod tree;
#[cfg(test)]
#[path = "tidy/triggers.rs"]
mod triggers;
