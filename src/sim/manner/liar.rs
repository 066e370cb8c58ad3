//! Peers that say untruly what they and others upload, and are honest otherwise.

use super::write::{Fate, Said, live};
use crate::wire::live::Live;

/// Each offer says that the sender uploads so many `copies` of the stream, and that everybody does.
pub(super) fn judge(said: &Said, copies: f64) -> Fate {
    let Said::Live(Live::Offer(offer)) = said else { return Fate::Keep };
    let claim = (copies * 256.0) as u16;
    let mut offer = offer.clone();
    (offer.upload, offer.mean) = (claim, claim);
    Fate::Instead(live(&Live::Offer(offer)))
}

#[cfg(test)]
mod tests {
    use super::super::write::tests::write;
    use super::*;
    use crate::units::Epoch;
    use crate::wire::live::{Offer, StripeOffer};
    use crate::wire::message::Message;
    use crate::wire::tlv::Tlvs;

    #[test]
    fn only_what_an_offer_says_of_uploads_is_untrue() {
        let offer = |upload, mean| {
            let stripes = vec![StripeOffer { lag_ms: 1, bar: 2, below: 3, branch: 4 }];
            let (base_ms, entries_ms, room) = (5, 6, 7);
            let (epoch, ext) = (Epoch(1), Tlvs::default());
            let offer = Offer { epoch, base_ms, entries_ms, upload, room, mean, stripes, ext };
            live(&Live::Offer(offer))
        };
        let said = |upload, mean| write(&[Message::Unchoke, offer(upload, mean)]);
        assert_eq!(said(100, 200).retold(|said| judge(said, 2.0), &[]), said(512, 512));
    }
}
