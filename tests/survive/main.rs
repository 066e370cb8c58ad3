//! What a stream must survive. Real processes over loopback; a recorder keeps what was signed and
//! searches all runs at once. What is told to keep to a limit or to hide does so.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod broadcaster;
mod clocks;
mod inputs;
mod options;
mod scene;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod viewers;
