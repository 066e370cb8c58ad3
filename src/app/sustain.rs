//! What the user is told when the swarm's upload does not carry the stream.

use crate::swarm::status::Status;
use crate::wire::live::Reason;

/// It is said again when the index has moved by so much.
const MOVED: f64 = 0.1;

/// What was said.
#[derive(Debug, Default)]
pub struct Sustain {
    told: Option<f64>,
}

impl Sustain {
    /// What to say after another second, if anything.
    pub fn second(&mut self, status: &Status) -> Option<String> {
        let index = status.resource_index.filter(|_| status.reason == Reason::UNSUSTAINABLE)?;
        if self.told.is_some_and(|told| (told - index).abs() < MOVED) {
            return None;
        }
        self.told = Some(index);
        Some(format!(
            "this bitrate is not sustainable: r = {:.2} (what all viewers upload, over what they \
             need)",
            down(index)
        ))
    }
}

/// To a hundredth, and never up to 1.
fn down(index: f64) -> f64 {
    (index * 100.0).floor() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_just_below_one_does_not_read_as_one() {
        assert_eq!([0.999, 0.93, 0.5].map(|r| format!("{:.2}", down(r))), ["0.99", "0.93", "0.50"]);
    }
}
