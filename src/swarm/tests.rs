//! Stories of two and more nodes.
