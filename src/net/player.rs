//! Starting a media player on the URL of a stream.
#![allow(clippy::disallowed_methods)]

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::process::{Child, Command};

/// Why there is no player, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum PlayerError {
    /// It is not installed.
    #[error("the player \"{name}\" was not found; open {url} in any player")]
    NotFound {
        /// What was looked for.
        name: String,
        /// What it should have played.
        url: String,
    },
    /// It could not be started.
    #[error("{} could not be started: {error}; open {url} in any player", path.display())]
    NotStarted {
        /// The program.
        path: PathBuf,
        /// What it should have played.
        url: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// It ended and said that something went wrong.
    #[error("the player \"{name}\" failed: {status}")]
    Failed {
        /// Which player.
        name: String,
        /// How it ended.
        status: ExitStatus,
    },
}

/// A player that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Player {
    name: String,
    child: Child,
}

impl Player {
    /// Starts `command` on `url`: the name or path of a player, perhaps with arguments behind it.
    /// `args` and what makes a known player leave at the end come before the URL. It inherits no
    /// input, and talks to standard error, for standard output may carry media.
    ///
    /// # Errors
    /// It is not installed or cannot be started. Must be called on a runtime.
    pub fn start(command: &str, args: &[String], url: &str) -> Result<Self, PlayerError> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        Self::start_from(&search, command, args, url)
    }

    fn start_from(
        search: &OsStr,
        command: &str,
        args: &[String],
        url: &str,
    ) -> Result<Self, PlayerError> {
        let (path, given) = resolve(search, command)
            .ok_or_else(|| PlayerError::NotFound { name: command.into(), url: url.into() })?;
        let name = file_name(&path);
        let talk = io::stderr().as_fd().try_clone_to_owned().map_or(Stdio::null(), Stdio::from);
        let child = Command::new(&path)
            .args(leave_at_end(&name))
            .args(given)
            .args(args)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(talk)
            .kill_on_drop(true)
            .spawn();
        match child {
            Ok(child) => Ok(Self { name, child }),
            Err(error) => Err(PlayerError::NotStarted { path, url: url.into(), error }),
        }
    }

    /// Waits until the player has ended. Cancel-safe.
    ///
    /// # Errors
    /// It ended with an error, or by a signal.
    pub async fn wait(&mut self) -> Result<(), PlayerError> {
        match self.child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(PlayerError::Failed { name: self.name.clone(), status }),
            // Nothing can be known about it any more, so it is treated as gone.
            Err(_) => Ok(()),
        }
    }
}

/// What known players need so as not to wait for ever once the stream has ended.
fn leave_at_end(name: &str) -> &'static [&'static str] {
    match name {
        "vlc" | "cvlc" => &["--play-and-exit"],
        "ffplay" => &["-autoexit"],
        _ => &[],
    }
}

/// The program that `command` names and the arguments in it. A path with blanks in it is tried as
/// it stands first.
fn resolve(search: &OsStr, command: &str) -> Option<(PathBuf, Vec<String>)> {
    if let Some(path) = find(search, command) {
        return Some((path, Vec::new()));
    }
    let mut words = command.split_whitespace();
    let path = find(search, words.next()?)?;
    Some((path, words.map(str::to_string).collect()))
}

/// Where a program is; what has a slash in it is a path already.
fn find(search: &OsStr, name: &str) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let aliases: &[&str] = if name == "vlc" { &["vlc", "cvlc"] } else { &[name] };
    let in_folders = |name: &&str| {
        std::env::split_paths(search).map(|dir| dir.join(name)).find(|path| is_program(path))
    };
    aliases.iter().find_map(in_folders)
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:1/s/x.ts";

    /// A folder with a player that writes its arguments to `said` and ends with `code`.
    fn folder(name: &str, code: i32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join(name);
        let said = dir.path().join("said");
        let script = format!("#!/bin/sh\necho \"$@\" > '{}'\nexit {code}\n", said.display());
        std::fs::write(&path, script).expect("writes");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("may be run");
        dir
    }

    /// Starts what `folder` made, again while a process that another test has just forked still
    /// holds the script open for writing.
    fn start(dir: &tempfile::TempDir, command: &str, args: &[String]) -> Player {
        loop {
            match Player::start_from(dir.path().as_os_str(), command, args, URL) {
                Err(PlayerError::NotStarted { error, .. })
                    if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                result => return result.expect("starts"),
            }
        }
    }

    #[tokio::test]
    async fn a_player_gets_its_arguments_and_then_the_url() {
        let table = [
            ("mpv", "mpv", "--mute x URL"),
            ("mpv", "mpv --no-config", "--no-config --mute x URL"),
            ("cvlc", "vlc", "--play-and-exit --mute x URL"),
            ("ffplay", "ffplay", "-autoexit --mute x URL"),
            ("my player", "my player", "--mute x URL"),
        ];
        for (installed, command, expected) in table {
            let dir = folder(installed, 0);
            let args = ["--mute".to_string(), "x".to_string()];
            let mut player =
                Player::start_from(dir.path().as_os_str(), command, &args, URL).expect("starts");
            player.wait().await.expect("ends well");
            let said = std::fs::read_to_string(dir.path().join("said")).expect("ran");
            assert_eq!(said.trim(), expected.replace("URL", URL));
        }
    }

    #[tokio::test]
    async fn a_player_that_is_not_installed_is_named_with_the_url() {
        let dir = folder("other", 0);
        for name in ["mpv", "", "/none/mpv", "said"] {
            let error =
                Player::start_from(dir.path().as_os_str(), name, &[], URL).expect_err("not there");
            assert!(matches!(error, PlayerError::NotFound { .. }), "{error}");
            assert!(error.to_string().contains(URL), "{error}");
        }
    }

    #[tokio::test]
    async fn a_player_that_fails_is_named_with_its_status() {
        let dir = folder("mpv", 3);
        let mut player = start(&dir, "mpv", &[]);
        let error = player.wait().await.expect_err("fails");
        assert_eq!(error.to_string(), "the player \"mpv\" failed: exit status: 3");
    }
}
