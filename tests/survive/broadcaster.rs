//! A broadcaster that is killed, that loses its state, that finds it torn or meets its double.

use std::path::Path;
use std::time::Duration;

use btlive::machine::Rng;

use crate::scene::{HEARD_LIMIT, Scene, heads, wait_for_progress};
use crate::support::process::Start;
use crate::support::recorder::Recorder;
use crate::support::{free_port, wait_for};

/// A broadcaster that knows another one.
fn knowing(scene: &Scene, name: &str, port: u16, other: u16) -> Start {
    scene.broadcaster(name, port, &[]).args(["--peer", &format!("127.0.0.1:{other}")])
}

#[test]
fn a_broadcaster_killed_at_any_moment_goes_on_and_signs_no_place_twice() {
    let kills = std::env::var("SURVIVE_KILLS").map_or(50, |n| n.parse().expect("a number"));
    let mut rng = Rng::new(0x5eed_0001);
    let mut scene = Scene::new();
    let mut recorder = scene.recorder();
    let mut run = scene.broadcast();
    for name in ["viewer1", "viewer2"] {
        scene.view(name);
    }
    for (_, port) in &scene.viewers {
        recorder.listen_to(*port);
    }
    wait_for_progress(&recorder, None);
    for kill in 0..kills {
        // Some die while they listen, most while they publish.
        std::thread::sleep(Duration::from_millis(rng.below(2_500)));
        run.kill();
        scene.assert_viewers_run();
        recorder.assert_no_contradiction();
        let before = recorder.head();
        run = scene.broadcast();
        if kill % 3 != 2 {
            wait_for_progress(&recorder, before);
        }
    }
    let mark = scene.sent_len();
    scene.wait_for_bytes_behind(mark);
    recorder.assert_no_contradiction();
    assert_eq!(recorder.epochs().len(), 1, "with its state it goes on in its epoch");
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    for told in told {
        let heads = heads(&told);
        assert!(heads.len() > 5, "{} documents", heads.len());
        assert!(heads.is_sorted(), "no index goes back: {heads:?}");
    }
}

#[test]
fn a_broadcaster_without_its_state_opens_a_higher_epoch_and_viewers_go_on() {
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let run = scene.broadcast();
    scene.view("viewer1");
    wait_for_progress(&recorder, None);
    scene.wait_for_bytes_behind(0);
    run.kill();
    std::fs::remove_dir_all(scene.path("broadcaster.state")).expect("the state goes");
    let before = recorder.head().expect("a head");
    let mark = scene.sent_len();
    let run = scene.broadcast();
    scene.wait_for_bytes_behind(mark);
    let after = recorder.head().expect("a head");
    assert!(after.epoch > before.epoch, "{after} is of a higher epoch than {before}");
    let first = recorder.first_of(after.epoch).expect("its first entry");
    assert!(first.0 >= before.index.0 + 1024, "{first} is far above {}", before.index);
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    assert!(heads(&told[0]).is_sorted(), "{:?}", heads(&told[0]));
}

#[test]
fn a_state_torn_between_two_runs_leads_to_no_second_signature() {
    let mut rng = Rng::new(0x5eed_0002);
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let mut run = scene.broadcast();
    scene.view("viewer1");
    wait_for_progress(&recorder, None);
    for tear in 0..4 {
        std::thread::sleep(Duration::from_millis(500 + rng.below(700)));
        run.kill();
        tear_file(&scene.state_of("broadcaster").join("published"), tear, &mut rng);
        let before = recorder.head();
        run = scene.broadcast();
        wait_for_progress(&recorder, before);
        recorder.assert_no_contradiction();
        scene.assert_viewers_run();
    }
    let mark = scene.sent_len();
    scene.wait_for_bytes_behind(mark);
    let told = scene.finish(run);
    recorder.assert_no_contradiction();
    assert!(heads(&told[0]).is_sorted(), "{:?}", heads(&told[0]));
}

/// Leaves the file as a write that broke off might: cut, overwritten in part, or empty.
fn tear_file(path: &Path, how: usize, rng: &mut Rng) {
    let mut bytes = std::fs::read(path).expect("the last entry is on disk");
    let at = rng.index(bytes.len());
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes[at..].fill(0),
        2 => bytes[..at].fill(0xff),
        _ => bytes.clear(),
    }
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn of_two_broadcasters_with_one_key_one_follows_says_so_and_takes_over() {
    let mut scene = Scene::new();
    let recorder = scene.recorder();
    let first = scene.broadcast();
    // It takes over only while two others report the same head: alone it might be cut off.
    for name in ["viewer1", "viewer2"] {
        scene.view(name);
    }
    wait_for_progress(&recorder, None);
    scene.wait_for_bytes_behind(0);
    let port = free_port();
    let mut second = scene.run(knowing(&scene, "second", port, scene.port));
    second.process.wait_for_line("another broadcaster with this key is ahead", HEARD_LIMIT);
    assert_eq!(recorder.epochs().len(), 1, "who follows signs nothing");

    let of_second = Recorder::start(port, scene.live.info_hash, scene.live.public_key);
    let before = recorder.head().expect("a head");
    first.kill();
    wait_for("a higher epoch", HEARD_LIMIT, || {
        of_second.head().filter(|head| head.epoch > before.epoch)
    });
    let mark = scene.sent_len();
    scene.wait_for_bytes_behind(mark);
    let told = scene.finish(second);
    recorder.assert_no_contradiction();
    of_second.assert_no_contradiction();
    assert!(heads(&told[0]).is_sorted(), "{:?}", heads(&told[0]));
}

#[test]
fn two_broadcasters_that_start_at_once_end_in_one_epoch() {
    let mut scene = Scene::new();
    scene.view("viewer1");
    let (port, recorder) = (free_port(), scene.recorder());
    let mut first = scene.run(knowing(&scene, "broadcaster", scene.port, port));
    let mut second = scene.run(knowing(&scene, "second", port, scene.port));
    let of_second = Recorder::start(port, scene.live.info_hash, scene.live.public_key);
    let follows = "another broadcaster with this key is ahead";
    wait_for("one that follows", HEARD_LIMIT, || {
        let words = [&first, &second].map(|run| run.process.stderr().contains(follows));
        (words[0] != words[1]).then_some(())
    });
    wait_for("one head", HEARD_LIMIT, || {
        let heads = (recorder.head()?, of_second.head()?);
        (heads.0.epoch == heads.1.epoch).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    scene.assert_viewers_run();
    let words = [&first, &second].map(|run| run.process.stderr().contains(follows));
    assert!(words[0] != words[1], "exactly one follows: {words:?}");
    for recorder in [&recorder, &of_second] {
        recorder.assert_no_contradiction();
        assert!(recorder.count() > 0);
    }
    for run in [&mut first, &mut second] {
        assert!(run.process.status().is_none(), "{}", run.process.last_words());
    }
    first.kill();
    second.kill();
}
