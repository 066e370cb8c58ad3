//! A scenario that was read is written so that it reads back as the same, and what a run reads of
//! it is within the bounds that its check promises.
#![no_main]

use btlive::sim::scenario::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(scenario) = Scenario::parse(text) else { return };
    assert!(scenario.check().is_ok());
    let written = toml::to_string(&scenario).expect("it can be written");
    let again = Scenario::parse(&written).expect("written by us");
    assert_eq!(format!("{again:?}"), format!("{scenario:?}"));
    let mean = scenario.mean_upload();
    assert!(mean.is_finite() && mean >= 0.0, "{mean}");
    let classes = scenario.upload_classes();
    let shares: f64 = classes.iter().map(|class| class.share).sum();
    assert!(classes.is_empty() || (shares - 1.0).abs() < 0.02, "{shares}");
});
