//! Clocks that are wrong, and broadcasts that are old.

use std::ffi::OsString;
use std::time::Duration;

use crate::scene::{HEARD_LIMIT, Scene, documents, states};
use crate::support::btlive::number;
use crate::support::stream::contiguous_part;
use crate::support::{debian_tool, wait_for};

/// Runs a command with a wall clock that is off by so much; the monotonic clock stays as it is.
fn off_by(offset: &str) -> Vec<OsString> {
    [debian_tool("faketime"), "--exclude-monotonic", "-f", offset].map(OsString::from).into()
}

#[test]
fn a_viewer_whose_clock_is_wrong_by_an_hour_plays_like_the_others() {
    let mut scene = Scene::new();
    let run = scene.broadcast();
    for (name, offset) in [("right", None), ("early", Some("+1h")), ("late", Some("-1h"))] {
        let under = offset.map(off_by).unwrap_or_default();
        let output = scene.path(&format!("{name}.ts"));
        scene.view_to(name, &output, &under);
    }
    std::thread::sleep(Duration::from_secs(7));
    let told = scene.finish(run);
    let sent = scene.sent();
    let began = ["right", "early", "late"].map(|name| {
        let seen = scene.seen(name);
        let at = contiguous_part(&sent, &seen).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(at + seen.len(), sent.len(), "{name} has it up to the end");
        at
    });
    let spread = began.iter().max().expect("three") - began.iter().min().expect("three");
    assert!(spread < sent.len() / 3, "all begin about the same time: {began:?} of {}", sent.len());
    for (told, name) in told.iter().zip(["right", "early", "late"]) {
        let last = told.last().expect("a document");
        assert_eq!(number(last, "pieces.missed"), 0.0, "{name}: {last}");
        assert_eq!(number(last, "stalls.count"), 0.0, "{name}: {last}");
        // Whose clock is right says live; who cannot know says that the times do not fit.
        let word = if name == "right" { "live" } else { "stale" };
        assert!(states(told).contains(&word.to_owned()), "{name}: {:?}", states(told));
    }
}

#[test]
fn an_old_broadcast_that_is_replayed_plays_and_is_not_called_live() {
    let mut scene = Scene::new();
    let old = off_by("-2h");
    let run = scene.run(scene.broadcaster("broadcaster", scene.port, &old));
    scene.view("viewer1");
    scene.wait_for_bytes_behind(0);
    std::thread::sleep(Duration::from_secs(3));
    let told = scene.finish(run).remove(0);
    let states = states(&told);
    assert!(!states.contains(&"live".to_owned()), "{states:?}");
    assert!(told.iter().any(|d| d["state"] == "stale" && d["reason"] == "replay"), "{states:?}");
    contiguous_part(&scene.sent(), &scene.seen("viewer1")).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_a_relay_still_holds_of_a_dead_broadcast_is_not_called_live() {
    let mut scene = Scene::new();
    let run = scene.broadcast();
    scene.view("viewer1");
    scene.wait_for_bytes_behind(0);
    run.kill();
    // Ten minutes later, as far as the next one can see.
    let output = scene.path("viewer2.ts");
    scene.view_to("viewer2", &output, &off_by("+10m"));
    let viewer = &scene.viewers[1].0;
    wait_for("five documents", HEARD_LIMIT, || (documents(viewer).len() > 5).then_some(()));
    let told = documents(viewer);
    assert!(told.iter().any(|d| d["pieces"]["head"].is_u64()), "it meets the stream: {told:?}");
    assert!(!states(&told).contains(&"live".to_owned()), "{:?}", states(&told));
}
