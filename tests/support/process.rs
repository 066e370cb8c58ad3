//! A process with captured output that dies with the value that stands for it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::namespace::Namespace;

/// How to start a process: a command whose output goes to files in a directory of the test.
pub(crate) struct Start {
    name: String,
    command: Command,
    dir: PathBuf,
    stdin: bool,
    stdout: bool,
}

impl Start {
    /// Will start `program`; its output goes to `NAME.out` and `NAME.err` in `dir`.
    pub(crate) fn new(name: &str, program: impl AsRef<OsStr>, dir: &Path) -> Self {
        Self::within(None, name, program, dir)
    }

    /// The same inside a network namespace, if one is given.
    pub(crate) fn within(
        namespace: Option<&Namespace>,
        name: &str,
        program: impl AsRef<OsStr>,
        dir: &Path,
    ) -> Self {
        let mut command = match namespace {
            Some(namespace) => {
                let mut command = namespace.command("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]);
                command
            }
            None => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]);
                command
            }
        };
        // With the death signal it also goes when the test is killed, and a group of its own
        // keeps the terminal's Ctrl-C from reaching it before us.
        command.arg(program).process_group(0).env("NO_COLOR", "1");
        Self { name: name.to_owned(), command, dir: dir.to_owned(), stdin: false, stdout: false }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub(crate) fn current_dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Leaves standard input open, for [`Process::take_stdin`].
    pub(crate) fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// Leaves standard output to [`Process::take_stdout`] instead of a file.
    pub(crate) fn with_stdout(mut self) -> Self {
        self.stdout = true;
        self
    }

    /// Starts the process.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub(crate) fn spawn(mut self) -> Process {
        let file = |ending: &str| {
            let path = self.dir.join(format!("{}.{ending}", self.name));
            File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let stdin = if self.stdin { Stdio::piped() } else { Stdio::null() };
        let stdout = if self.stdout { Stdio::piped() } else { file("out").into() };
        self.command.stdin(stdin).stdout(stdout).stderr(file("err"));
        let child = self.command.spawn().unwrap_or_else(|e| panic!("start {}: {e}", self.name));
        Process { name: self.name, child, dir: self.dir }
    }
}

/// A started process. It and its process group are killed on drop.
pub(crate) struct Process {
    name: String,
    child: Child,
    dir: PathBuf,
}

impl Process {
    /// The name given at the start.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.output("out")
    }

    /// What it has printed to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.output("err")
    }

    fn output(&self, ending: &str) -> String {
        let path = self.dir.join(format!("{}.{ending}", self.name));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The end of both outputs, for messages.
    pub(crate) fn last_words(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(15)..].join("\n")
        };
        format!("{}:\n{}\n{}", self.name, tail(self.stdout()), tail(self.stderr()))
    }

    /// The end of its standard error, for messages about a process that writes a stream.
    pub(crate) fn last_words_of_stderr(&self) -> String {
        let text = self.stderr();
        let lines: Vec<&str> = text.lines().collect();
        format!("{}:\n{}", self.name, lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// Its standard input, once.
    ///
    /// # Panics
    /// If it was not left open or is taken already.
    #[track_caller]
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("an open standard input")
    }

    /// Its standard output, once.
    ///
    /// # Panics
    /// If it goes to a file or is taken already.
    #[track_caller]
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("an open standard output")
    }

    /// How it ended, or nothing while it runs.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// With its last words, if it still runs after `limit`.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.status() {
                return status;
            }
            let late = start.elapsed() >= limit;
            assert!(!late, "still running after {limit:?}: {}", self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `text` shows in an output and gives the line that holds it.
    ///
    /// # Panics
    /// With its last words, if it ends first or `limit` is over.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, text: &str, limit: Duration) -> String {
        let start = Instant::now();
        loop {
            let ended = self.status().is_some();
            let all = self.stdout() + &self.stderr();
            if let Some(line) = all.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            let late = ended || start.elapsed() >= limit;
            assert!(!late, "no \"{text}\" (ended: {ended}) from {}", self.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal (`TERM`, `INT`, `HUP`, ...) to the process.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let _ = Command::new("kill").args(["-s", name, "--", &id]).status();
    }

    /// Kills it and whatever it has started, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let group = format!("-{}", self.id());
        let _ = Command::new("kill").args(["-s", "KILL", "--", &group]).status();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits for that.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    #[track_caller]
    pub(crate) fn terminate(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.status() {
            return status;
        }
        self.signal("TERM");
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status().is_none() {
            self.kill();
        }
    }
}

/// Runs a command to its end and gives its standard output.
///
/// # Panics
/// If it cannot be started or fails.
#[track_caller]
pub(crate) fn output_of(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    output.stdout
}
