//! The slow path.
