//! Rules of the tree, as a test.
