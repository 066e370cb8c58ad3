//! Death and a full disk at each step of writing the state. The steps are system calls: strace
//! shows them, kills at the one that is named, or lets it fail. Nothing in the product knows of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use btlive::units::Seq;
use btlive::wire::feed::Entry;
use bytes::Bytes;

use crate::scene::{END_LIMIT, HEARD_LIMIT, Run, Scene, heads, wait_for_progress};
use crate::support::recorder::Recorder;
use crate::support::{debian_tool, free_port, wait_for};

/// The system calls by which a state is made, read and written, and those by which peers are
/// told. Some exist on some machines only: hence the question marks.
const STATE_CALLS: &str = "?mkdir,?mkdirat,?chmod,?fchmodat,fchmod,openat,flock,pread64,pwrite64,\
                           ?rename,?renameat,?renameat2,ftruncate,fsync,fdatasync";
const PEER_CALLS: &str = "write,writev,sendto,sendmsg";

/// At so many moments of publishing a broadcaster dies at least once.
const MOMENTS: usize = 16;

/// One system call of the main thread: the `ordinal`-th of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    call: String,
    ordinal: usize,
    line: String,
}

impl Step {
    fn is_of(&self, names: &str) -> bool {
        names.split(',').any(|name| name.trim_start_matches('?') == self.call)
    }

    /// Whether it is about what lies below `state`.
    fn touches(&self, state: &Path) -> bool {
        self.line.contains(state.to_str().expect("a path in UTF-8"))
    }
}

/// strace that writes the calls to `log` and does what `more` says.
fn strace(log: &Path, more: &[String]) -> Vec<OsString> {
    let calls = format!("trace={STATE_CALLS},{PEER_CALLS}");
    let mut words: Vec<OsString> = vec![debian_tool("strace").into()];
    words.extend(["-f", "-y", "-s", "16", "-e", &calls, "-o"].map(OsString::from));
    words.push(log.into());
    words.extend(more.iter().map(OsString::from));
    words
}

/// What the main thread did by a log of strace.
fn steps(log: &Path) -> Vec<Step> {
    let text = fs::read_to_string(log).expect("a log");
    let main = text.split_whitespace().next().expect("a thread");
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix(main)) {
        let line = line.trim_start();
        let Some((call, _)) = line.split_once('(') else { continue };
        if call.chars().all(|c| c.is_ascii_alphanumeric()) {
            let ordinal = steps.iter().filter(|step| step.call == call).count() + 1;
            steps.push(Step { call: call.to_owned(), ordinal, line: line.to_owned() });
        }
    }
    steps
}

/// A swarm whose members are all written down, before anybody broadcasts.
fn watched(scene: &mut Scene) -> Recorder {
    let mut recorder = scene.recorder();
    for name in ["viewer1", "viewer2"] {
        scene.view(name);
    }
    for (_, port) in &scene.viewers {
        recorder.listen_to(*port);
    }
    recorder
}

/// Starts a broadcaster that is traced; `takeover` lets it open an epoch without listening long.
fn traced(scene: &Scene, more: &[String], takeover: bool) -> Run {
    let under = strace(&scene.path("strace.log"), more);
    let start = scene.broadcaster("broadcaster", scene.port, &under);
    scene.run(if takeover { start.arg("--takeover") } else { start })
}

/// Lets a broadcaster die on its way into `step` and gives the call at which it did.
#[track_caller]
fn die_at(scene: &Scene, step: &Step, takeover: bool) -> Step {
    let inject = format!("inject={}:signal=KILL:when={}", step.call, step.ordinal);
    let mut process = traced(scene, &["-e".to_owned(), inject], takeover).ended(HEARD_LIMIT);
    let status = process.wait(END_LIMIT);
    assert!(status.code().is_none(), "{step:?}: {status}: {}", process.last_words());
    steps(&scene.path("strace.log")).pop().expect("a last step")
}

/// What a broadcaster does up to its first entries: its way into the stream and, after it, the
/// writing and the telling in turn.
fn steps_of_a_run(scene: &Scene, recorder: &Recorder, takeover: bool) -> Vec<Step> {
    let run = traced(scene, &[], takeover);
    for _ in 0..8 {
        wait_for_progress(recorder, recorder.head());
    }
    run.kill();
    steps(&scene.path("strace.log"))
}

/// The calls on the state before the first record is written.
fn way_in(steps: &[Step], state: &Path) -> Vec<Step> {
    let before = steps.iter().take_while(|step| step.call != "pwrite64");
    before.filter(|step| step.touches(state)).cloned().collect()
}

/// From the first record on: each writing of a record and the first telling after it.
fn publishing(steps: &[Step], state: &Path) -> Vec<Step> {
    let mut moments: Vec<Step> = Vec::new();
    for step in steps.iter().skip_while(|step| step.call != "pwrite64") {
        let tells = step.is_of(PEER_CALLS) && step.line.contains("socket:[");
        let after_writing = moments.last().is_some_and(|last| last.call == "pwrite64");
        if (step.call == "pwrite64" && step.touches(state)) || (tells && after_writing) {
            moments.push(step.clone());
        }
    }
    moments.truncate(MOMENTS);
    moments
}

#[test]
fn a_broadcaster_killed_between_any_two_steps_of_its_state_signs_no_place_twice() {
    let mut scene = Scene::new();
    let recorder = watched(&mut scene);
    let state = scene.path("broadcaster.state");
    let first = steps_of_a_run(&scene, &recorder, true);
    let again = steps_of_a_run(&scene, &recorder, false);
    let (fresh, resumed) = (way_in(&first, &state), way_in(&again, &state));
    assert!(fresh.iter().any(|s| s.is_of("mkdir,mkdirat")), "{fresh:?}");
    assert!(resumed.iter().any(|s| s.call == "pread64"), "{resumed:?}");
    let moments = publishing(&again, &state);
    let (writing, telling): (Vec<&Step>, Vec<&Step>) =
        moments.iter().partition(|step| step.call == "pwrite64");
    assert!(writing.len() > 4 && telling.len() > 4, "{moments:?}");
    assert!(fresh.len() + resumed.len() >= moments.len(), "each moment has its turn");
    let mut moments = moments.iter().cycle();
    let epochs = recorder.epochs();
    for (steps, fresh) in [(&resumed, false), (&fresh, true)] {
        for step in steps {
            if fresh {
                fs::remove_dir_all(&state).expect("the state goes");
            }
            let last = die_at(&scene, step, fresh);
            assert_eq!((&last.call, last.ordinal), (&step.call, step.ordinal), "{last:?}");
            // What that left must be of use to the next one, which dies while it publishes.
            let moment = moments.next().expect("a moment");
            let last = die_at(&scene, moment, fresh);
            assert_eq!(last.call, moment.call, "{last:?}");
            scene.assert_viewers_run();
            recorder.assert_no_contradiction();
            assert!(fresh || recorder.epochs() == epochs, "with its state it goes on in its epoch");
        }
    }
    let mark = scene.sent_len();
    let run = scene.broadcast();
    scene.wait_for_bytes_behind(mark);
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    for told in told {
        assert!(heads(&told).is_sorted(), "no index goes back: {:?}", heads(&told));
    }
}

#[test]
fn a_broadcaster_whom_nobody_reminds_of_what_it_signed_knows_it_from_its_state() {
    let scene = Scene::new();
    let moments = publishing(
        &steps_of_a_run(&scene, &scene.recorder(), false),
        &scene.path("broadcaster.state"),
    );
    assert_eq!(moments.len(), MOMENTS, "{moments:?}");
    // Alone it listens for two seconds before it signs, so each moment has a channel of its own.
    std::thread::scope(|scope| {
        for moment in &moments {
            scope.spawn(move || {
                let scene = Scene::new();
                let recorder = scene.recorder();
                die_at(&scene, moment, false);
                let before = recorder.head();
                let run = scene.broadcast();
                wait_for_progress(&recorder, before);
                std::thread::sleep(Duration::from_secs(1));
                run.kill();
                recorder.assert_no_contradiction();
                assert_eq!(recorder.epochs().len(), 1, "{moment:?}");
            });
        }
    });
}

/// The place of the entry in the record that strace shows as failed, in hexadecimal.
fn refused_place(log: &Path) -> Seq {
    let text = fs::read_to_string(log).expect("a log");
    let line = text.lines().find(|line| line.contains("ENOSPC")).expect("a call that failed");
    let quoted = line.split('"').nth(1).expect("what was to be written");
    let hex = quoted.split("\\x").skip(1);
    let record: Vec<u8> = hex.map(|b| u8::from_str_radix(b, 16).expect("hex")).collect();
    // specs/feed.md, State on disk: the head of a slot, the entry, a digest.
    let entry = Bytes::copy_from_slice(&record[34..record.len() - 32]);
    Entry::parse(&entry).expect("an entry").head.seq()
}

#[test]
fn an_entry_that_cannot_be_written_down_is_shown_to_nobody() {
    let mut scene = Scene::new();
    let recorder = watched(&mut scene);
    let log = scene.path("strace.log");
    let record = scene.state_of("broadcaster").join("published");
    let mut under: Vec<OsString> = vec![debian_tool("strace").into()];
    // The first dozen is what was taken in while it listened.
    let fault = "inject=pwrite64:error=ENOSPC:when=30";
    under.extend(["-f", "-xx", "-s", "5000", "-e", "trace=pwrite64", "-e", fault].map(Into::into));
    under.extend(["-P".into(), record.as_os_str().to_owned(), "-o".into(), log.clone().into()]);
    let run = scene.run(scene.broadcaster("broadcaster", scene.port, &under));
    wait_for_progress(&recorder, None);
    let mut ended = run.ended(HEARD_LIMIT);
    assert_eq!(ended.wait(END_LIMIT).code(), Some(5), "{}", ended.last_words());
    let words = ended.stderr();
    let faults: Vec<&str> = words.lines().filter(|l| l.contains("No space left")).collect();
    assert_eq!(faults.len(), 1, "{words}");
    assert!(faults[0].contains(record.to_str().expect("UTF-8")), "{words}");
    assert_eq!(words.lines().last(), Some(faults[0]), "and nothing after it: {words}");

    let refused = refused_place(&log);
    std::thread::sleep(Duration::from_secs(1));
    let shown = recorder.head().expect("what was written before is shown");
    assert!(shown < refused, "{shown} is shown, {refused} could not be written");
    scene.assert_viewers_run();

    let mark = scene.sent_len();
    let run = scene.broadcast();
    scene.wait_for_bytes_behind(mark);
    assert!(recorder.head() >= Some(refused), "its place is used after all");
    assert_eq!(recorder.epochs().len(), 1);
    scene.finish(run);
    recorder.assert_no_contradiction();
}

#[test]
fn a_broadcaster_that_can_write_nothing_shows_nothing() {
    let scene = Scene::new();
    let recorder = scene.recorder();
    let state = scene.state_of("broadcaster");
    fs::create_dir_all(&state).expect("a folder");
    std::os::unix::fs::symlink("/dev/full", state.join("published")).expect("a full disk");
    let mut ended = scene.broadcast().ended(HEARD_LIMIT);
    assert_eq!(ended.wait(END_LIMIT).code(), Some(5), "{}", ended.last_words());
    assert!(ended.stderr().contains("No space left"), "{}", ended.last_words());
    assert_eq!(recorder.count(), 0);
}

#[test]
fn only_the_user_may_read_the_state_whatever_the_umask() {
    let scene = Scene::new();
    let under = |umask: &str| {
        ["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"].map(OsString::from)
    };
    let source = scene.run(scene.broadcaster("broadcaster", scene.port, &under("000")));
    let mut viewers = Vec::new();
    for (name, umask) in [("open", "000"), ("shut", "277")] {
        let viewer = scene
            .member(name, "play", free_port(), &under(umask))
            .args(["--peer", &format!("127.0.0.1:{}", scene.port), "--output", "/dev/null"])
            .arg(&scene.live.magnet)
            .spawn();
        viewers.push(viewer);
    }
    for (name, files) in [
        ("broadcaster", ["published", "head", "lock"].as_slice()),
        ("open", &["head", "info"]),
        ("shut", &["head", "info"]),
    ] {
        let state = scene.state_of(name);
        wait_for(&format!("the state of {name}"), HEARD_LIMIT, || {
            files.iter().all(|file| state.join(file).exists()).then_some(())
        });
        let above = scene.path(&format!("{name}.state"));
        for dir in [&above, &state] {
            assert_eq!(mode(dir), 0o700, "{}", dir.display());
            for entry in fs::read_dir(dir).expect("a folder").flatten() {
                let is_file = entry.file_type().expect("a type").is_file();
                let wanted = if is_file { 0o600 } else { 0o700 };
                assert_eq!(mode(&entry.path()), wanted, "{}", entry.path().display());
            }
        }
    }
    source.kill();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}
