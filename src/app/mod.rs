//! What a person starts: the commands, their outputs, their status. One file a command, each with
//! its `Args` and its `run`; `cli` lists them, `exit` says how they may end.

pub mod announce;
pub mod args;
pub mod broadcast;
pub mod cli;
pub mod common;
pub mod completions;
pub mod console;
pub mod create;
pub mod demo;
pub mod exit;
pub mod file;
pub mod inspect;
pub mod keyfile;
pub mod man;
pub mod play;
pub mod reach;
pub mod relays;
pub mod scrape;
pub mod seed;
pub mod session;
pub mod sim;
pub mod status;
pub mod sustain;
pub mod target;
pub mod tracker;
pub mod upload;
