//! Software offloads.
