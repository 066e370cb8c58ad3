//! Parses the command line, starts a role, maps errors to exit codes; nothing else.

fn main() {}
