//! Peers that promise more than anybody can keep, and vouch for one another.

use super::write::{Fate, Said, live};
use crate::wire::live::{Live, Offer, Report, StripeOffer};

/// What they promise, in milliseconds.
const LAG_MS: u16 = 1;
/// What they say that they upload and have left: 200 copies.
const UPLOAD: u16 = 200 * 256;

/// Every offer has everything at once for anybody, and every report has received a lot from
/// whomever it is asked about.
pub(super) fn judge(said: &Said) -> Fate {
    match said {
        Said::Live(Live::Offer(offer)) => Fate::Instead(live(&Live::Offer(boast(offer)))),
        Said::Live(Live::Report(Report::Answer { report, received, view })) => {
            let received = received.iter().map(|(id, _)| (*id, u64::MAX)).collect();
            let (report, view) = (*report, *view);
            Fate::Instead(live(&Live::Report(Report::Answer { report, received, view })))
        }
        _ => Fate::Keep,
    }
}

fn boast(offer: &Offer) -> Offer {
    let stripe = StripeOffer { lag_ms: LAG_MS, bar: 0, below: u8::MAX, branch: 0 };
    Offer {
        base_ms: 0,
        entries_ms: LAG_MS,
        upload: UPLOAD,
        room: UPLOAD,
        stripes: vec![stripe; offer.stripes.len()],
        ..offer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::write;
    use super::*;
    use crate::units::Epoch;
    use crate::wire::message::Message;
    use crate::wire::tlv::Tlvs;

    #[test]
    fn only_promises_and_what_was_received_are_untrue() {
        let said = |base_ms, entries_ms, upload, stripe, bytes| {
            let stripes = vec![stripe; 2];
            let (epoch, mean, ext) = (Epoch(1), 300, Tlvs::default());
            let room = upload;
            let offer = Offer { epoch, base_ms, entries_ms, upload, room, mean, stripes, ext };
            let report = Report::Answer { report: 4, received: vec![(9, bytes)], view: None };
            write(&[
                Message::Unchoke,
                live(&Live::Offer(offer)),
                live(&Live::Report(report)),
                live(&Live::Report(Report::Ask { report: 4, credits: vec![9] })),
            ])
        };
        let honest = StripeOffer { lag_ms: 300, bar: 255, below: 3, branch: 4 };
        let boast = StripeOffer { lag_ms: 1, bar: 0, below: 255, branch: 0 };
        let got = said(70, 200, 100, honest, 5).retold(judge, &[]);
        assert_eq!(got, said(0, 1, 51_200, boast, u64::MAX));
    }
}
