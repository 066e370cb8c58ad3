//! What a stream must survive. Real processes over loopback; a recorder keeps what was signed and
//! searches all runs at once.
#![allow(clippy::disallowed_methods, reason = "these tests live in real time")]

mod broadcaster;
mod clocks;
mod inputs;
mod scene;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod viewers;
