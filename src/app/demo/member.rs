//! Those who take part in a demonstration: each a task here, or a process of its own.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::app::common::Common;
use crate::app::exit::{Code, Failure};
use crate::app::play;
use crate::app::session::{Session, Setup, Told};
use crate::app::target::Target;
use crate::net::driver::Node;
use crate::net::readers::ReaderHandle;
use crate::swarm::config::{Role, SourceConfig};
use crate::swarm::io::{Delivery, In};

/// Parts of the stream that wait for the broadcaster.
const FEED_LEN: usize = 64;
/// How far behind the broadcaster viewers play.
const DELAY: Duration = Duration::from_secs(2);
/// How long a player may wait for the stream over HTTP.
const HTTP_WAIT: Duration = Duration::from_secs(30);
/// A process tells its URL within this time.
const URL_WAIT: Duration = Duration::from_secs(15);
/// Everybody ends within this time after the stream.
const END_WAIT: Duration = Duration::from_secs(20);
/// Bytes read from a viewer's output at once.
const READ_LEN: usize = 64 << 10;

/// What a viewer hands over.
#[derive(Debug)]
pub(super) enum Heard {
    /// The next bytes of the stream.
    Bytes(Bytes),
    /// The stream has ended for it.
    End,
}

/// Where viewers send what they get, each with its number.
pub(super) type Ear = mpsc::Sender<(usize, Heard)>;

/// The ground that all stand on.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// A folder that is removed at the end.
    pub(super) dir: PathBuf,
    /// The live torrent.
    pub(super) torrent: PathBuf,
    /// Its key file.
    pub(super) key: PathBuf,
    /// The broadcaster's limit, in bit/s.
    pub(super) upload_limit: u64,
    /// Whether each is a process of its own.
    pub(super) processes: bool,
}

/// How a member is to end.
#[derive(Clone, Copy, Debug)]
enum Order {
    Finish,
    Kill,
}

/// Somebody who takes part.
#[derive(Debug)]
pub(super) struct Member {
    document: watch::Receiver<Value>,
    order: Option<oneshot::Sender<Order>>,
    task: JoinHandle<Result<(), Failure>>,
    /// The way to a node of this process.
    node: Option<Node>,
    /// Where it can be watched.
    pub(super) url: Option<String>,
}

impl Member {
    /// Its latest status document; null before the first.
    pub(super) fn document(&self) -> Value {
        self.document.borrow().clone()
    }

    /// What a broadcaster does at present: `listening`, `publishing`, ...
    pub(super) async fn source(&self) -> Option<String> {
        match &self.node {
            Some(node) => node.snapshot().await?.source_mode.map(str::to_owned),
            None => self.document().get("source")?.as_str().map(str::to_owned),
        }
    }

    /// Whether it has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets it leave in order; gives its last status document.
    pub(super) async fn finish(mut self) -> Result<Value, Failure> {
        self.send(Order::Finish);
        let abort = self.task.abort_handle();
        let ended = tokio::time::timeout(END_WAIT, &mut self.task).await;
        abort.abort();
        match ended {
            Ok(Ok(result)) => result.map(|()| self.document()),
            Ok(Err(error)) => Err(Failure::new(Code::Unexpected, error)),
            Err(_) => Err(Failure::new(Code::Unexpected, "does not end")),
        }
    }

    /// Ends it as if its machine had died; gives its last status document.
    pub(super) async fn kill(mut self) -> Value {
        self.send(Order::Kill);
        let _ = tokio::time::timeout(END_WAIT, &mut self.task).await;
        self.task.abort();
        self.document()
    }

    fn send(&mut self, order: Order) {
        if let Some(sender) = self.order.take() {
            // One that has ended by itself needs no order.
            let _ = sender.send(order);
        }
    }
}

/// A dropped sender means that the demonstration is over, whyever.
async fn ordered(order: &mut oneshot::Receiver<Order>) -> Order {
    order.await.unwrap_or(Order::Kill)
}

impl Stage {
    fn state_dir(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.state"))
    }

    fn target(&self) -> Result<Target, Failure> {
        Target::read(&self.torrent.to_string_lossy())
    }

    /// Starts the broadcaster; what goes into the sender is broadcast, and closing it ends the
    /// stream.
    pub(super) async fn broadcaster(&self) -> Result<(Member, mpsc::Sender<Bytes>), Failure> {
        let (feed, stream) = mpsc::channel(FEED_LEN);
        let (order, orders) = oneshot::channel();
        let (document, node, task) = if self.processes {
            let mut command = self.command("broadcast", "broadcaster");
            command.arg("--key").arg(&self.key).arg("--upload-limit");
            command.arg(self.upload_limit.to_string()).arg(&self.torrent).stdin(Stdio::piped());
            let mut child = spawn(command)?;
            let (documents, document) = watch::channel(Value::Null);
            let words = listen(child.stdout.take(), child.stderr.take(), documents.clone(), None);
            if let Some(stdin) = child.stdin.take() {
                tokio::spawn(pour(stream, stdin));
            }
            let report = self.dir.join("broadcaster.json");
            (document, None, tokio::spawn(attend(child, report, documents, words, orders)))
        } else {
            let mut common = Common::on_loopback(self.state_dir("broadcaster"));
            common.upload_limit = Some(crate::app::args::Rate(self.upload_limit));
            let key = crate::app::keyfile::read(&self.key)?;
            let source = SourceConfig { key, last: None, takeover: false, hide: false };
            let role = Role::Source(Box::new(source));
            let session = start(&common, self.target()?, "broadcast", role).await?;
            let node = Some(session.node.clone());
            (session.document(), node, tokio::spawn(run(session, Some(stream), orders)))
        };
        Ok((Member { document, order: Some(order), task, node, url: None }, feed))
    }

    /// Starts a viewer, which serves players at `http` if it is given.
    pub(super) async fn viewer(
        &self,
        number: usize,
        http: Option<SocketAddr>,
        ear: Ear,
    ) -> Result<Member, Failure> {
        let name = format!("viewer{number}");
        let (order, orders) = oneshot::channel();
        let order = Some(order);
        if !self.processes {
            let common = Common::on_loopback(self.state_dir(&name));
            let session = start(&common, self.target()?, "play", Role::Viewer).await?;
            let url = match http {
                Some(addr) => Some(play::serve(&session, addr, DELAY.into(), HTTP_WAIT).await?),
                None => None,
            };
            let reader = session.node.open_reader(DELAY.into()).await;
            let reader =
                reader.ok_or_else(|| Failure::new(Code::Unexpected, "the node is gone"))?;
            tokio::spawn(watch_stream(number, reader, ear));
            let document = session.document();
            let node = Some(session.node.clone());
            let task = tokio::spawn(run(session, None, orders));
            return Ok(Member { document, order, task, node, url });
        }
        let mut command = self.command("play", &name);
        command.args(["--output", "-"]).args(http.map(|addr| format!("--http={addr}")));
        command.arg(&self.torrent).stdin(Stdio::null());
        let mut child = spawn(command)?;
        let (documents, document) = watch::channel(Value::Null);
        let (url_found, url) = oneshot::channel();
        let output = child.stdout.take();
        let words = listen(None, child.stderr.take(), documents.clone(), Some(url_found));
        if let Some(output) = output {
            tokio::spawn(watch_output(number, output, ear));
        }
        let report = self.dir.join(format!("{name}.json"));
        let mut task = tokio::spawn(attend(child, report, documents, words, orders));
        let url = match http {
            None => None,
            Some(_) => tokio::select! {
                url = tokio::time::timeout(URL_WAIT, url) => url.ok().and_then(Result::ok),
                ended = &mut task => {
                    ended.map_err(|e| Failure::new(Code::Unexpected, e))??;
                    return Err(Failure::new(Code::Unexpected, format_args!("{name} has ended")));
                }
            },
        };
        Ok(Member { document, order, task, node: None, url })
    }

    /// This program in another role, in a process of its own.
    fn command(&self, role: &str, name: &str) -> Command {
        // What is being run, also if it was replaced meanwhile.
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("btlive"));
        let mut command = Command::new(program);
        command.args([role, "--listen", "127.0.0.1:0", "--allow-local", "--json"]);
        command.args(["--no-dht", "--no-lsd", "--no-pex", "--no-utp", "--port-mapping", "off"]);
        command.arg("--state-dir").arg(self.state_dir(name));
        command.arg("--report").arg(self.dir.join(format!("{name}.json")));
        let settings = std::env::vars_os().map(|(name, _)| name);
        for name in settings.filter(|name| name.to_string_lossy().starts_with("BTLIVE_")) {
            command.env_remove(name);
        }
        // A group of its own: the terminal's Ctrl-C is for the demonstration.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        command
    }
}

async fn start(
    common: &Common,
    target: Target,
    role_name: &'static str,
    role: Role,
) -> Result<Session, Failure> {
    let left_zero = matches!(role, Role::Source(_));
    let setup = Setup {
        role_name,
        role,
        left_zero,
        delay: DELAY,
        stdout_is_media: false,
        feed_only: Vec::new(),
    };
    Session::start(common, target, setup).await
}

/// Lets a node here take part until it is told to end.
async fn run(
    mut session: Session,
    mut stream: Option<mpsc::Receiver<Bytes>>,
    mut orders: oneshot::Receiver<Order>,
) -> Result<(), Failure> {
    loop {
        tokio::select! {
            bytes = fed(&mut stream) => match bytes {
                Some(bytes) => {
                    session.node.input(In::Ingest(bytes)).await;
                }
                None => {
                    stream = None;
                    session.node.input(In::IngestEnd).await;
                }
            },
            told = session.next() => match told? {
                Told::Event(_) | Told::Second(_) => {}
            },
            order = ordered(&mut orders) => match order {
                Order::Finish => return session.finish().await,
                Order::Kill => {
                    session.kill().await;
                    return Ok(());
                }
            },
        }
    }
}

async fn fed(stream: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match stream {
        Some(stream) => stream.recv().await,
        None => std::future::pending().await,
    }
}

/// Passes on what a reader gets. Tables that a reader puts ahead are not the broadcaster's.
async fn watch_stream(number: usize, mut reader: ReaderHandle, ear: Ear) {
    while let Some(item) = reader.next().await {
        match item {
            Delivery::Piece { blocks, .. } => {
                for block in blocks {
                    if ear.send((number, Heard::Bytes(block))).await.is_err() {
                        return;
                    }
                }
                reader.taken();
            }
            Delivery::Skip { .. } => {}
            Delivery::End => {
                let _ = ear.send((number, Heard::End)).await;
                return;
            }
        }
    }
}

/// Passes on what a process writes.
async fn watch_output(number: usize, mut output: impl AsyncRead + Unpin, ear: Ear) {
    loop {
        let mut bytes = bytes::BytesMut::with_capacity(READ_LEN);
        let heard = match output.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => Heard::End,
            Ok(_) => Heard::Bytes(bytes.freeze()),
        };
        let is_end = matches!(heard, Heard::End);
        if ear.send((number, heard)).await.is_err() || is_end {
            return;
        }
    }
}

fn spawn(mut command: Command) -> Result<Child, Failure> {
    command.spawn().map_err(|e| Failure::new(Code::Unexpected, format_args!("no process: {e}")))
}

async fn pour(mut stream: mpsc::Receiver<Bytes>, mut stdin: ChildStdin) {
    while let Some(bytes) = stream.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Reads a process's words: status documents, the URL, and the last line that is neither.
fn listen(
    stdout: Option<tokio::process::ChildStdout>,
    stderr: Option<tokio::process::ChildStderr>,
    documents: watch::Sender<Value>,
    mut url: Option<oneshot::Sender<String>>,
) -> watch::Receiver<String> {
    let (words, last) = watch::channel(String::new());
    if let Some(stdout) = stdout {
        let documents = documents.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                note(&documents, &line);
            }
        });
    }
    if let Some(stderr) = stderr {
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if note(&documents, &line) {
                    continue;
                }
                if let Some(found) = line.strip_prefix("playing at ")
                    && let Some(url) = url.take()
                {
                    let _ = url.send(found.to_owned());
                }
                words.send_replace(line);
            }
        });
    }
    last
}

/// Whether a line is a status document.
fn note(documents: &watch::Sender<Value>, line: &str) -> bool {
    match serde_json::from_str(line) {
        Ok(document @ Value::Object(_)) => {
            documents.send_replace(document);
            true
        }
        _ => false,
    }
}

/// Waits for a process to end, by itself or by force, and reads its report.
async fn attend(
    mut child: Child,
    report: PathBuf,
    documents: watch::Sender<Value>,
    words: watch::Receiver<String>,
    mut orders: oneshot::Receiver<Order>,
) -> Result<(), Failure> {
    let mut told = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            // One that is to finish does so with the stream's end.
            order = ordered(&mut orders), if !told => match order {
                Order::Finish => told = true,
                Order::Kill => {
                    let _ = child.kill().await;
                    return Ok(());
                }
            },
        }
    };
    let status = status.map_err(|e| Failure::new(Code::Unexpected, e))?;
    if !status.success() {
        return Err(process_failure(status.code(), &words.borrow()));
    }
    if let Some(document) = read_report(&report) {
        documents.send_replace(document);
    }
    Ok(())
}

/// A process that failed, by its code and its last words.
fn process_failure(code: Option<i32>, words: &str) -> Failure {
    let words = words.strip_prefix("btlive: ").unwrap_or(words);
    match code {
        // What the user can mend by naming another address.
        Some(10) => Failure::new(Code::AddressInUse, words),
        Some(code) => {
            Failure::new(Code::Unexpected, format_args!("ended with code {code}: {words}"))
        }
        None => Failure::new(Code::Unexpected, format_args!("was killed: {words}")),
    }
}

fn read_report(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
