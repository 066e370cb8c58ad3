//! Peers that say untruly what they and others upload, and are honest otherwise.

use bytes::{Bytes, BytesMut};

use crate::wire::extended::Extension;
use crate::wire::live::Kind;

/// Bytes of a frame before an extension's payload: length, `extended`, number.
const HEAD_LEN: usize = 6;
/// Number of an extension message (BEP 10).
const EXTENDED: u8 = 20;
/// Where `bl_offer` has *upload* and *mean* (`specs/wire.md`).
const UPLOAD_AT: usize = HEAD_LEN + 12;
const MEAN_AT: usize = HEAD_LEN + 16;

/// The frames of one write, with `copies` of the stream in each offer as what the sender uploads
/// and as what everybody does.
pub(super) fn with_claims(frames: Bytes, copies: f64) -> Bytes {
    let claim = ((copies * 256.0) as u16).to_be_bytes();
    let offer = Extension::Live(Kind::Offer).our_id();
    let mut out = BytesMut::from(&frames[..]);
    let mut rest = &mut out[..];
    while let Some((len, _)) = rest.split_first_chunk::<4>() {
        let len = 4 + u32::from_be_bytes(*len) as usize;
        if len > rest.len() {
            break; // A block whose payload follows by itself.
        }
        let (frame, behind) = rest.split_at_mut(len);
        if frame.len() > MEAN_AT + 2 && frame[4..HEAD_LEN] == [EXTENDED, offer] {
            frame[UPLOAD_AT..UPLOAD_AT + 2].copy_from_slice(&claim);
            frame[MEAN_AT..MEAN_AT + 2].copy_from_slice(&claim);
        }
        rest = behind;
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Epoch;
    use crate::wire::live::{Live, Offer, StripeOffer};
    use crate::wire::message::Message;
    use crate::wire::tlv::Tlvs;

    #[test]
    fn only_what_an_offer_says_of_uploads_is_untrue() {
        let offer = |upload, mean| {
            let stripes = vec![StripeOffer { lag_ms: 1, bar: 2, below: 3, branch: 4 }];
            let (base_ms, entries_ms, room) = (5, 6, 7);
            let (epoch, ext) = (Epoch(1), Tlvs::default());
            let offer = Offer { epoch, base_ms, entries_ms, upload, room, mean, stripes, ext };
            let id = Extension::Live(Kind::Offer).our_id();
            Message::Extended { id, payload: Live::Offer(offer).encode() }
        };
        let write = |upload, mean| {
            let mut out = BytesMut::new();
            Message::Unchoke.put_head(&mut out);
            offer(upload, mean).put_head(&mut out);
            out.extend_from_slice(&[0, 0, 64, 9, 7]);
            out.freeze()
        };
        assert_eq!(with_claims(write(100, 200), 2.0), write(512, 512));
    }
}
