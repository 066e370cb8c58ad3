//! What every command that takes part in a swarm has in common: its options, its log, its stop.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use super::args::{Rate, listen_address};
use super::exit::{Code, Failure};

/// Whether a router is asked to forward a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PortMapping {
    /// It is not.
    Off,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogForm {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Options of every command that takes part in a swarm.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Network")]
pub struct Common {
    /// Address and port to listen on for peers; port 0 lets the system choose
    #[arg(long, value_name = "ADDR:PORT", env = "BTLIVE_LISTEN", value_parser = listen_address)]
    pub listen: Option<SocketAddr>,
    /// Dials this peer directly (repeatable)
    #[arg(long, value_name = "ADDR:PORT", env = "BTLIVE_PEER", value_delimiter = ',')]
    pub peer: Vec<String>,
    /// Announces this port instead of the one listened on, as for a forwarded port
    #[arg(long, value_name = "PORT", env = "BTLIVE_ANNOUNCE_PORT")]
    pub announce_port: Option<u16>,
    /// Lets private and loopback addresses out of torrents, trackers and peers be contacted
    #[arg(long, env = "BTLIVE_ALLOW_LOCAL")]
    pub allow_local: bool,
    /// Most bits per second to send, protocol and all, as in 8M; without it what the line carries
    /// is learnt, beginning with two copies; 0, for play alone, passes next to nothing on
    #[arg(long, value_name = "RATE", env = "BTLIVE_UPLOAD_LIMIT")]
    pub upload_limit: Option<Rate>,
    /// Most bits per second of payload to ask for beyond standing subscriptions
    #[arg(long, value_name = "RATE", env = "BTLIVE_DOWNLOAD_LIMIT")]
    pub download_limit: Option<Rate>,
    /// Most connections to peers
    #[arg(long, value_name = "N", env = "BTLIVE_MAX_PEERS", default_value_t = 60,
          value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub max_peers: u16,
    /// Uses no DHT; there is none in this version, so it changes nothing
    #[arg(long, env = "BTLIVE_NO_DHT")]
    pub no_dht: bool,
    /// Uses no local peer discovery; there is none in this version, so it changes nothing
    #[arg(long, env = "BTLIVE_NO_LSD")]
    pub no_lsd: bool,
    /// Exchanges no addresses with peers
    #[arg(long, env = "BTLIVE_NO_PEX")]
    pub no_pex: bool,
    /// Uses no uTP; there is none in this version, so it changes nothing
    #[arg(long, env = "BTLIVE_NO_UTP")]
    pub no_utp: bool,
    /// Whether a router is asked to forward a port; this version never asks, so it changes nothing
    #[arg(long, value_enum, value_name = "WHETHER", env = "BTLIVE_PORT_MAPPING")]
    pub port_mapping: Option<PortMapping>,
    /// Folder for what must survive a restart
    #[arg(long, value_name = "DIR", env = "BTLIVE_STATE_DIR", help_heading = "Files")]
    pub state_dir: Option<PathBuf>,
    /// Writes the final status to this file as JSON
    #[arg(long, value_name = "FILE", env = "BTLIVE_REPORT", help_heading = "Files")]
    pub report: Option<PathBuf>,
    /// Prints the status as a JSON document once a second
    #[arg(long, env = "BTLIVE_JSON", help_heading = "Output")]
    pub json: bool,
    /// Logs more; twice for much more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
    /// Prints nothing but errors
    #[arg(short, long, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// Form of the log on standard error
    #[arg(
        long,
        value_enum,
        default_value = "text",
        value_name = "FORM",
        env = "BTLIVE_LOG",
        help_heading = "Output"
    )]
    pub log: LogForm,
}

impl Common {
    /// A quiet member of a swarm on this machine alone, which finds others through trackers only.
    #[must_use]
    pub fn on_loopback(state_dir: PathBuf) -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            peer: Vec::new(),
            announce_port: None,
            allow_local: true,
            upload_limit: None,
            download_limit: None,
            max_peers: 60,
            no_dht: true,
            no_lsd: true,
            no_pex: true,
            no_utp: true,
            port_mapping: Some(PortMapping::Off),
            state_dir: Some(state_dir),
            report: None,
            json: false,
            verbose: 0,
            quiet: true,
            log: LogForm::Text,
        }
    }

    /// Starts the log, and looks whether the report can be written before anything else begins.
    ///
    /// # Errors
    /// Code 5 or 7 if it cannot.
    pub fn begin(&self) -> Result<(), Failure> {
        self.start_log();
        let Some(path) = &self.report else { return Ok(()) };
        // A pipe or a device is opened once, when there is something to write.
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            return Ok(());
        }
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
        opened.map(drop).map_err(|error| {
            let path = path.display();
            Failure::new(Code::of_file(&error), format_args!("--report {path}: {error}"))
        })
    }

    /// Refuses to send nothing, for commands that are there to send.
    ///
    /// # Errors
    /// `--upload-limit` leaves less than a byte a second.
    pub fn must_send(&self, command: &str) -> Result<(), Failure> {
        match self.upload_limit {
            Some(Rate(0..8)) => Err(Failure::usage(format_args!(
                "--upload-limit 0: {command} is there to send; give it a limit such as 8M, or none"
            ))),
            _ => Ok(()),
        }
    }

    /// Starts the log on standard error.
    fn start_log(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "info",
            _ => "btlive=trace,info",
        };
        let filter = tracing_subscriber::EnvFilter::new(level);
        let builder =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        // A second start, as in a demo with several roles, keeps the first log.
        let _ = match self.log {
            LogForm::Json => builder.json().try_init(),
            LogForm::Text => {
                let colour = std::env::var_os("NO_COLOR").is_none()
                    && std::io::IsTerminal::is_terminal(&std::io::stderr());
                builder.with_ansi(colour).with_target(false).try_init()
            }
        };
    }

    /// Where the state lies: `--state-dir`, else the user's state folder.
    ///
    /// # Errors
    /// No folder is given and the environment names no home.
    pub fn state_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        let from = |name, below: &str| {
            std::env::var_os(name).filter(|v| !v.is_empty()).map(|v| PathBuf::from(v).join(below))
        };
        from("XDG_STATE_HOME", "btlive").or_else(|| from("HOME", ".local/state/btlive")).ok_or_else(
            || Failure::usage("no home folder to keep the state in; name one with --state-dir"),
        )
    }

    /// Where to listen: `--listen`, else any port of any address.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub fn listener(&self) -> Result<tokio::net::TcpListener, Failure> {
        let bind = |addr: SocketAddr| {
            crate::net::tcp::listen(addr).map_err(|error| {
                let code = Code::of_address(&error);
                Failure::new(code, format_args!("cannot listen on {addr}: {error}"))
            })
        };
        match self.listen {
            Some(addr) => bind(addr),
            None => bind(SocketAddr::from(([0u16; 8], 0)))
                .or_else(|_| bind(SocketAddr::from(([0, 0, 0, 0], 0)))),
        }
    }
}

/// How the user wants an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// A service manager's wish.
    Terminate,
}

/// Waits for the first signal to stop; the second one ends the process at once.
pub async fn stop_signal() -> Stop {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    let stop = tokio::select! {
        _ = interrupt.recv() => Stop::Interrupt,
        _ = terminate.recv() => Stop::Terminate,
    };
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(i32::from(Code::Interrupted as u8));
    });
    stop
}
