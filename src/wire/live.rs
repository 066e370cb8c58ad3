//! The live extension's messages (`specs/wire.md`): fixed heads, then type-length-value fields.
//!
//! Each has a name of its own in the extension handshake's `m` (BEP 10), so that a peer may lack
//! some of them. Numbers are big-endian.

use std::cell::Cell;

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u32, be_u64};

use super::feed::Claim;
use super::limits::{
    ENTRY_LEN_MAX, PROOF_LEN_MAX, RUN_ENTRIES_MAX, RUN_LEN_MAX, WINDOW_PIECES_MAX,
};
use super::message::{WireError, take_shared};
use super::tlv::Tlvs;
use crate::units::{BlockNo, Epoch, PieceIndex};

/// Bytes of the type-length-value area behind a message of this extension, at most.
pub const MESSAGE_EXT_LEN_MAX: usize = 512;
/// Blocks named in one `bl_skip`.
pub const SKIP_BLOCKS_MAX: usize = 256;
/// Credit ids in one `bl_report`.
pub const REPORT_CREDITS_MAX: usize = 32;
/// `index` of an ask for the newest entries.
pub const NEWEST: PieceIndex = PieceIndex(u32::MAX);
/// Hops of a peer that does not know its distance from the source.
pub const HOPS_UNKNOWN: u8 = 255;
/// Largest stripe count a subscription may name.
pub const STRIPES_MAX: u8 = 32;
/// `first` of a `bl_subscribe` that changes the last block of a subscription. A change and the
/// subscription's end may cross on the way: without this mark the change would look like a new
/// wish.
pub const CHANGE: BlockNo = BlockNo(u64::MAX);

/// The messages by their names in `m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `bl_window`
    Window,
    /// `bl_entries`
    Entries,
    /// `bl_subscribe`
    Subscribe,
    /// `bl_grant`
    Grant,
    /// `bl_skip`
    Skip,
    /// `bl_end`
    End,
    /// `bl_clock`
    Clock,
    /// `bl_report`
    Report,
    /// `bl_proof`
    Proof,
    /// `bl_offer`
    Offer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Window,
        Self::Entries,
        Self::Subscribe,
        Self::Grant,
        Self::Skip,
        Self::End,
        Self::Clock,
        Self::Report,
        Self::Proof,
        Self::Offer,
    ];

    /// The name in `m`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Window => "bl_window",
            Self::Entries => "bl_entries",
            Self::Subscribe => "bl_subscribe",
            Self::Grant => "bl_grant",
            Self::Skip => "bl_skip",
            Self::End => "bl_end",
            Self::Clock => "bl_clock",
            Self::Report => "bl_report",
            Self::Proof => "bl_proof",
            Self::Offer => "bl_offer",
        }
    }
}

/// Why something is as it is: one table for all messages; unknown codes are shown as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Reason(pub u8);

impl Reason {
    /// Nothing to explain.
    pub const NONE: Self = Self(0);
    /// Nobody sends to me.
    pub const NO_UPSTREAM: Self = Self(1);
    /// Those who send to me are too slow.
    pub const SLOW_UPSTREAM: Self = Self(2);
    /// The source itself has a gap.
    pub const SOURCE_GAP: Self = Self(3);
    /// My own downlink is too slow.
    pub const OWN_DOWNLINK: Self = Self(4);
    /// My own clock is wrong.
    pub const OWN_CLOCK: Self = Self(5);
    /// The swarm's upload does not carry the bit rate.
    pub const UNSUSTAINABLE: Self = Self(6);
    /// The stream may be an old one replayed.
    pub const REPLAY: Self = Self(7);
    /// No upload left.
    pub const FULL: Self = Self(16);
    /// The receiver is choked.
    pub const CHOKED: Self = Self(17);
    /// Not held yet, or too late to be of use.
    pub const LATE: Self = Self(18);
    /// Slid out of the window.
    pub const GONE: Self = Self(19);
    /// The sender is in another epoch now.
    pub const EPOCH: Self = Self(20);
    /// The last block asked for was sent.
    pub const DONE: Self = Self(21);
    /// The sender's policy.
    pub const POLICY: Self = Self(22);
    /// The sender leaves the swarm.
    pub const LEAVING: Self = Self(23);
}

/// `bl_window`: which pieces the sender holds and how it fares. Replaces what it said before; its
/// epoch is the epoch of the connection's further indices from this side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The epoch the sender is in; 0 before it knows any.
    pub epoch: Epoch,
    /// Lowest piece that the bitmap speaks of; none below is held.
    pub base: PieceIndex,
    /// Birth time the sender keeps, in milliseconds: older pieces are implied gone.
    pub kept_ms: u32,
    /// Distance from the source in hops: 0 for a source that does not hide.
    pub hops: u8,
    /// Why the sender stalls, if it does.
    pub reason: Reason,
    /// Bit `i`, most significant first, is set if piece `base + i` is held.
    pub bitmap: Bytes,
    /// Further fields.
    pub ext: Tlvs,
}

impl Window {
    /// Whether the message says that `index` is held.
    #[must_use]
    pub fn has(&self, index: PieceIndex) -> bool {
        let Some(i) = index.0.checked_sub(self.base.0) else { return false };
        let byte = self.bitmap.get((i / 8) as usize).copied().unwrap_or(0);
        byte & (0x80 >> (i % 8)) != 0
    }

    /// The pieces that the message says are held, in order.
    pub fn held(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.bitmap.len() as u32 * 8)
            .filter_map(|i| self.base.0.checked_add(i).map(PieceIndex))
            .filter(|index| self.has(*index))
    }
}

/// `bl_entries`: asks for feed entries, answers, or brings new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries {
    /// Asks for a run of entries, newest first.
    Ask {
        /// The asker's number for the run.
        run: u8,
        /// Epoch of the run.
        epoch: Epoch,
        /// Newest entry wanted; [`NEWEST`] for the newest there is.
        index: PieceIndex,
        /// Entries wanted, 1 to 256.
        count: u16,
    },
    /// Answers an ask, newest first, without holes; fewer than asked if older ones are not held
    /// or the answer would exceed 128 KiB; none if the newest one is not held.
    Answer {
        /// The number from the ask.
        run: u8,
        /// The entries as their wire bytes.
        entries: Vec<Bytes>,
    },
    /// Brings entries unasked, oldest first.
    Push {
        /// The entries as their wire bytes.
        entries: Vec<Bytes>,
    },
}

/// What a subscription is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stripe {
    /// Blocks by their number.
    Blocks,
    /// Every new entry of the feed, across epochs.
    Entries,
}

/// Which blocks a subscription covers: those whose number modulo `k` is in
/// `stripes` and whose number divided by `k`, modulo 8, is in `part`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cover {
    /// Stripes the stream is cut into, 1 to 32.
    pub k: u8,
    /// One bit a stripe, least significant for stripe 0.
    pub stripes: u32,
    /// One bit for each eighth of a stripe.
    pub part: u8,
}

impl Cover {
    /// Everything.
    pub const ALL: Self = Self { k: 1, stripes: 1, part: 0xff };

    /// Whether `block` is covered.
    #[must_use]
    pub fn covers(&self, block: BlockNo) -> bool {
        let k = u64::from(self.k.max(1));
        self.stripes & (1u32 << (block.0 % k)) != 0 && self.part & (1u8 << (block.0 / k % 8)) != 0
    }

    /// Whether some block is covered by both, as far as stripes say; parts are not looked at.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let step = gcd(usize::from(self.k), usize::from(other.k)) as u32;
        let folded = |cover: &Self| {
            (0..u32::from(cover.k.min(STRIPES_MAX)))
                .filter(|stripe| cover.stripes & 1 << stripe != 0)
                .fold(0u32, |all, stripe| all | 1 << (stripe % step))
        };
        folded(self) & folded(other) != 0
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stripes == 0 || self.part == 0
    }

    /// The share of the stream that is covered, in units of 1/(8 k).
    #[must_use]
    pub fn eighths(&self) -> u32 {
        self.stripes.count_ones() * self.part.count_ones()
    }
}

/// `bl_subscribe`: a standing order, or with `first` = [`CHANGE`] a new last block for one that
/// stands; the other fields are of no meaning then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The subscriber's number for it, 0 to 63.
    pub id: u8,
    /// Blocks or entries.
    pub stripe: Stripe,
    /// The epoch of the blocks; 0 for entries.
    pub epoch: Epoch,
    /// Which blocks.
    pub cover: Cover,
    /// The first block wanted, or [`CHANGE`].
    pub first: BlockNo,
    /// The last block wanted; `u64::MAX` for no end.
    pub last: BlockNo,
    /// Further fields.
    pub ext: Tlvs,
}

impl Subscribe {
    /// Whether it only changes the last block of a subscription that stands. It is ignored if none
    /// with this id does.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.first == CHANGE
    }
}

/// `bl_grant`: what of a subscription will be sent; nothing granted is a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The subscription.
    pub id: u8,
    /// Why less than all is granted.
    pub reason: Reason,
    /// The part of the subscription that is granted; its `k` is the subscription's.
    pub cover: Cover,
    /// Credit id of this flow: drawn by the source, or the one under which the granter gets it
    /// from the source itself; 0 for none.
    pub credit: u32,
    /// The epoch of `first`; 0 for entries.
    pub epoch: Epoch,
    /// The first block that will be sent.
    pub first: BlockNo,
    /// Further fields.
    pub ext: Tlvs,
}

/// `bl_skip`: granted blocks that will not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The subscription.
    pub id: u8,
    /// Why.
    pub reason: Reason,
    /// The epoch of the blocks.
    pub epoch: Epoch,
    /// The blocks, at most 256.
    pub blocks: Vec<BlockNo>,
}

/// `bl_end`: a subscription is over; its id is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The subscription.
    pub id: u8,
    /// Why.
    pub reason: Reason,
}

/// `bl_clock`: round trip and clock offset. Unix microseconds by each side's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Asks.
    Ask {
        /// The asker's time.
        mine_us: u64,
    },
    /// Answers.
    Answer {
        /// The answerer's time when the answer was sent.
        mine_us: u64,
        /// The asker's time from the ask.
        yours_us: u64,
        /// The answerer's time when the ask arrived.
        arrived_us: u64,
    },
}

/// Lags in a [`View`].
pub const VIEW_LAGS: usize = 16;
/// Type of the field of a `bl_report` answer that holds a [`View`].
const VIEW: u16 = 1;
/// Bytes of its value.
const VIEW_LEN: usize = 1 + 2 * VIEW_LAGS;

/// How the stream comes to the sender of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Why the sender stalls, if it does.
    pub reason: Reason,
    /// Place `i`: milliseconds from publication that (2 i + 1) / 32 of the blocks of the last
    /// minute took at most; [`UNKNOWN`] if none came.
    pub lag_ms: [u16; VIEW_LAGS],
}

impl View {
    fn encode(&self) -> [u8; VIEW_LEN] {
        let mut out = [0; VIEW_LEN];
        let numbers = self.lag_ms.iter().flat_map(|lag| lag.to_be_bytes());
        let bytes = std::iter::once(self.reason.0).chain(numbers);
        out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        out
    }

    /// `None` if it is too short; what a later version may put behind it is left out.
    fn parse(value: &[u8]) -> Option<Self> {
        let (reason, lags) = value.get(..VIEW_LEN)?.split_first()?;
        let mut lag_ms = [UNKNOWN; VIEW_LAGS];
        let numbers = lags.chunks_exact(2).map(|b| u16::from_be_bytes(super::message::array(b)));
        lag_ms.iter_mut().zip(numbers).for_each(|(place, lag)| *place = lag);
        Some(Self { reason: Reason(*reason), lag_ms })
    }
}

/// `bl_report`: what came under which credit id, and how the stream comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Asks.
    Ask {
        /// The asker's number.
        report: u8,
        /// The credit ids in question.
        credits: Vec<u32>,
    },
    /// Answers.
    Answer {
        /// The number from the ask.
        report: u8,
        /// Verified payload bytes that came under each id.
        received: Vec<(u32, u64)>,
        /// How the stream comes, if the answerer says so.
        view: Option<View>,
    },
}

/// `bl_proof`: two claims with valid signatures that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// One.
    pub first: Claim,
    /// The other.
    pub second: Claim,
}

/// What a stripe costs at the sender of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StripeOffer {
    /// Milliseconds from a block's publication until it would have left the sender's uplink for one
    /// more subscriber; [`UNKNOWN`] if the sender does not get the stripe.
    pub lag_ms: u16,
    /// Weight that a subscriber must have to be granted the stripe; 0: anybody, 255: nobody.
    pub bar: u8,
    /// Peers that get the stripe through the sender, directly or not; 255 for as many or more.
    pub below: u8,
    /// The branch of the stripe's tree that the sender is in, named after the flow of the source
    /// that it begins with; 0 at the source, and if not known.
    pub branch: u8,
}

/// `bl_offer`: what a subscription at the sender would bring. Replaces what it said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The epoch that it is about.
    pub epoch: Epoch,
    /// Milliseconds that the feed takes at least from the source to the sender; [`UNKNOWN`] if it
    /// cannot say.
    pub base_ms: u16,
    /// Milliseconds that entries take on average; [`UNKNOWN`] if a wish for them would be refused.
    pub entries_ms: u16,
    /// What the sender uploads at most, in 1/256 of the stream's rate; [`UNKNOWN`] if it does not
    /// know.
    pub upload: u16,
    /// What of it is not granted to anybody, in 1/256 of the stream's rate.
    pub room: u16,
    /// What the swarm's viewers upload on average as far as the sender can tell, in 1/256 of the
    /// stream's rate; [`UNKNOWN`] if it cannot.
    pub mean: u16,
    /// One for each of the sender's stripes, 1 to 32.
    pub stripes: Vec<StripeOffer>,
    /// Further fields.
    pub ext: Tlvs,
}

/// A number of an offer that the sender does not know or has reason not to give.
pub const UNKNOWN: u16 = u16::MAX;

impl Offer {
    /// What `stripe` of `k` costs at the sender, whose own count may differ: the latest of the
    /// stripes that share blocks with it. `None` if the sender lacks one of them.
    #[must_use]
    pub fn lag_ms(&self, k: u8, stripe: u8) -> Option<u16> {
        self.sharing(k, stripe).map(|s| s.lag_ms).max().filter(|lag| *lag != UNKNOWN)
    }

    /// The weight that it takes to be granted `stripe` of `k`; 255 if nobody is.
    #[must_use]
    pub fn bar(&self, k: u8, stripe: u8) -> u8 {
        self.sharing(k, stripe).map(|s| s.bar).max().unwrap_or(u8::MAX)
    }

    /// How many get `stripe` of `k` through the sender.
    #[must_use]
    pub fn below(&self, k: u8, stripe: u8) -> u8 {
        self.sharing(k, stripe).map(|stripe| stripe.below).max().unwrap_or(0)
    }

    /// In which branch of a stripe's tree the sender is; 0 if that is not known.
    #[must_use]
    pub fn branch(&self, k: u8, stripe: u8) -> u8 {
        self.sharing(k, stripe).next().map_or(0, |s| s.branch)
    }

    /// The stripes that share blocks with `stripe` of `k`.
    fn sharing(&self, k: u8, stripe: u8) -> impl Iterator<Item = &StripeOffer> {
        let step = gcd(self.stripes.len(), usize::from(k));
        let first = usize::from(stripe) % step;
        self.stripes.iter().skip(first).step_by(step)
    }
}

/// The greatest common divisor; 1 where there is none.
pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// A message of the live extension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a message is handled one at a time, never kept")]
pub enum Live {
    /// What the sender holds.
    Window(Window),
    /// Feed entries.
    Entries(Entries),
    /// A standing order.
    Subscribe(Subscribe),
    /// Its answer.
    Grant(Grant),
    /// Granted blocks that will not come.
    Skip(Skip),
    /// The end of a subscription.
    End(End),
    /// Time.
    Clock(Clock),
    /// Credit.
    Report(Report),
    /// Equivocation.
    Proof(Proof),
    /// What subscriptions would bring.
    Offer(Offer),
}

type Input<'a> = &'a [u8];
type Parsed<'a, T> = nom::IResult<Input<'a>, T>;

fn epoch(input: Input<'_>) -> Parsed<'_, Epoch> {
    be_u64.map(Epoch).parse(input)
}

fn index(input: Input<'_>) -> Parsed<'_, PieceIndex> {
    be_u32.map(PieceIndex).parse(input)
}

fn block(input: Input<'_>) -> Parsed<'_, BlockNo> {
    be_u64.map(BlockNo).parse(input)
}

fn reason(input: Input<'_>) -> Parsed<'_, Reason> {
    be_u8.map(Reason).parse(input)
}

/// A message under way: its name and frame, for errors and shared slices.
struct Reading<'a> {
    name: &'static str,
    payload: &'a Bytes,
    /// Whether a field was met that must be understood and is not.
    needs_newer: Cell<bool>,
}

impl<'a> Reading<'a> {
    fn wrong_len(&self) -> WireError {
        WireError::Length { message: self.name, len: self.payload.len() }
    }

    fn value<T>(&self, field: &'static str, value: u64) -> Result<T, WireError> {
        Err(WireError::Value { message: self.name, field, value })
    }

    /// Runs `parser`; a short input is the peer's fault.
    fn take<T>(
        &self,
        input: Input<'a>,
        mut parser: impl Parser<Input<'a>, Output = T, Error = nom::error::Error<Input<'a>>>,
    ) -> Result<(Input<'a>, T), WireError> {
        parser.parse(input).map_err(|_| self.wrong_len())
    }

    /// The rest of the message as its extension area.
    fn ext(&self, input: Input<'a>) -> Result<Tlvs, WireError> {
        if input.len() > MESSAGE_EXT_LEN_MAX {
            return self.value("extension length", input.len() as u64);
        }
        let ext = Tlvs::parse(input).ok_or_else(|| self.wrong_len())?;
        if ext.unknown_critical(&[]).is_some() {
            self.needs_newer.set(true);
        }
        Ok(ext)
    }

    fn entries(&self, input: Input<'a>) -> Result<Vec<Bytes>, WireError> {
        let (mut rest, count) = self.take(input, be_u16)?;
        if usize::from(count) > RUN_ENTRIES_MAX {
            return self.value("entries", u64::from(count));
        }
        let mut entries = Vec::with_capacity(usize::from(count));
        let mut total = 0;
        for _ in 0..count {
            let (behind, len) = self.take(rest, be_u16)?;
            let len = usize::from(len);
            total += len;
            if len > ENTRY_LEN_MAX || total > RUN_LEN_MAX {
                return self.value("entry length", len as u64);
            }
            let (behind, entry) =
                take_shared(self.payload, behind, len).map_err(|_| self.wrong_len())?;
            entries.push(entry);
            rest = behind;
        }
        self.ext(rest)?;
        Ok(entries)
    }
}

impl Live {
    /// Which message it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Window(_) => Kind::Window,
            Self::Entries(_) => Kind::Entries,
            Self::Subscribe(_) => Kind::Subscribe,
            Self::Grant(_) => Kind::Grant,
            Self::Skip(_) => Kind::Skip,
            Self::End(_) => Kind::End,
            Self::Clock(_) => Kind::Clock,
            Self::Report(_) => Kind::Report,
            Self::Proof(_) => Kind::Proof,
            Self::Offer(_) => Kind::Offer,
        }
    }

    /// Reads the payload of the extended message `kind`. `Ok(None)` is a form that a later version
    /// defines, or has a critical field of a later version: it is skipped.
    ///
    /// # Errors
    /// The payload is too short or long, or a field is outside its definition.
    pub fn parse(kind: Kind, payload: &Bytes) -> Result<Option<Self>, WireError> {
        let r = Reading { name: kind.name(), payload, needs_newer: Cell::new(false) };
        let live = Self::read(kind, &r)?;
        Ok(live.filter(|_| !r.needs_newer.get()))
    }

    fn read(kind: Kind, r: &Reading<'_>) -> Result<Option<Self>, WireError> {
        let input = r.payload.as_ref();
        Ok(Some(match kind {
            Kind::Window => Self::Window(parse_window(r, input)?),
            Kind::Entries => match parse_entries(r, input)? {
                Some(entries) => Self::Entries(entries),
                None => return Ok(None),
            },
            Kind::Subscribe => match parse_subscribe(r, input)? {
                Some(subscribe) => Self::Subscribe(subscribe),
                None => return Ok(None),
            },
            Kind::Grant => Self::Grant(parse_grant(r, input)?),
            Kind::Skip => Self::Skip(parse_skip(r, input)?),
            Kind::End => {
                let (rest, (id, reason)) = r.take(input, (be_u8, reason))?;
                r.ext(rest)?;
                Self::End(End { id, reason })
            }
            Kind::Clock => match parse_clock(r, input)? {
                Some(clock) => Self::Clock(clock),
                None => return Ok(None),
            },
            Kind::Report => match parse_report(r, input)? {
                Some(report) => Self::Report(report),
                None => return Ok(None),
            },
            Kind::Proof => Self::Proof(parse_proof(r, input)?),
            Kind::Offer => Self::Offer(parse_offer(r, input)?),
        }))
    }

    /// The payload of the extended message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        match self {
            Self::Window(m) => {
                out.put_u64(m.epoch.0);
                out.put_u32(m.base.0);
                out.put_u32(m.kept_ms);
                out.put_u8(m.hops);
                out.put_u8(m.reason.0);
                out.put_u16(m.bitmap.len() as u16);
                out.put_slice(&m.bitmap);
                out.put_slice(m.ext.as_bytes());
            }
            Self::Entries(m) => m.put(&mut out),
            Self::Subscribe(m) => {
                out.put_u8(m.id);
                out.put_u8(match m.stripe {
                    Stripe::Blocks => 0,
                    Stripe::Entries => 1,
                });
                out.put_u8(m.cover.k);
                out.put_u8(m.cover.part);
                out.put_u32(m.cover.stripes);
                out.put_u64(m.epoch.0);
                out.put_u64(m.first.0);
                out.put_u64(m.last.0);
                out.put_slice(m.ext.as_bytes());
            }
            Self::Grant(m) => {
                out.put_u8(m.id);
                out.put_u8(m.reason.0);
                out.put_u8(m.cover.k);
                out.put_u8(m.cover.part);
                out.put_u32(m.cover.stripes);
                out.put_u32(m.credit);
                out.put_u64(m.epoch.0);
                out.put_u64(m.first.0);
                out.put_slice(m.ext.as_bytes());
            }
            Self::Skip(m) => {
                out.put_u8(m.id);
                out.put_u8(m.reason.0);
                out.put_u16(m.blocks.len() as u16);
                out.put_u64(m.epoch.0);
                for block in &m.blocks {
                    out.put_u64(block.0);
                }
            }
            Self::End(m) => {
                out.put_u8(m.id);
                out.put_u8(m.reason.0);
            }
            Self::Clock(m) => match m {
                Clock::Ask { mine_us } => {
                    out.put_u8(0);
                    out.put_u64(*mine_us);
                }
                Clock::Answer { mine_us, yours_us, arrived_us } => {
                    out.put_u8(1);
                    out.put_u64(*mine_us);
                    out.put_u64(*yours_us);
                    out.put_u64(*arrived_us);
                }
            },
            Self::Report(m) => match m {
                Report::Ask { report, credits } => {
                    out.put_u8(0);
                    out.put_u8(*report);
                    out.put_u8(credits.len() as u8);
                    for credit in credits {
                        out.put_u32(*credit);
                    }
                }
                Report::Answer { report, received, view } => {
                    out.put_u8(1);
                    out.put_u8(*report);
                    out.put_u8(received.len() as u8);
                    for (credit, bytes) in received {
                        out.put_u32(*credit);
                        out.put_u64(*bytes);
                    }
                    if let Some(view) = view {
                        out.put_u16(VIEW);
                        out.put_u16(VIEW_LEN as u16);
                        out.put_slice(&view.encode());
                    }
                }
            },
            Self::Proof(m) => {
                out.put_slice(&m.first.encode());
                out.put_slice(&m.second.encode());
            }
            Self::Offer(m) => {
                out.put_u64(m.epoch.0);
                for number in [m.base_ms, m.entries_ms, m.upload, m.room, m.mean] {
                    out.put_u16(number);
                }
                out.put_u8(m.stripes.len() as u8);
                for stripe in &m.stripes {
                    out.put_u16(stripe.lag_ms);
                    out.put_u8(stripe.bar);
                    out.put_u8(stripe.below);
                    out.put_u8(stripe.branch);
                }
                out.put_slice(m.ext.as_bytes());
            }
        }
        out.freeze()
    }
}

fn parse_window<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Window, WireError> {
    let (rest, (epoch, base, kept_ms, hops, reason, bitmap_len)) =
        r.take(input, (epoch, index, be_u32, be_u8, reason, be_u16))?;
    let bitmap_len = usize::from(bitmap_len);
    if bitmap_len * 8 > WINDOW_PIECES_MAX {
        return r.value("bitmap length", bitmap_len as u64);
    }
    if epoch.0 >= Epoch::END {
        return r.value("epoch", epoch.0);
    }
    let (rest, bitmap) = take_shared(r.payload, rest, bitmap_len).map_err(|_| r.wrong_len())?;
    // A few bytes that live long must not hold on to a whole read buffer.
    let bitmap = Bytes::copy_from_slice(&bitmap);
    Ok(Window { epoch, base, kept_ms, hops, reason, bitmap, ext: r.ext(rest)? })
}

fn parse_entries<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Option<Entries>, WireError> {
    let (rest, op) = r.take(input, be_u8)?;
    match op {
        0 => {
            let (rest, (run, epoch, index, count)) = r.take(rest, (be_u8, epoch, index, be_u16))?;
            if count == 0 || usize::from(count) > RUN_ENTRIES_MAX {
                return r.value("count", u64::from(count));
            }
            r.ext(rest)?;
            Ok(Some(Entries::Ask { run, epoch, index, count }))
        }
        1 => {
            let (rest, run) = r.take(rest, be_u8)?;
            Ok(Some(Entries::Answer { run, entries: r.entries(rest)? }))
        }
        2 => Ok(Some(Entries::Push { entries: r.entries(rest)? })),
        _ => Ok(None),
    }
}

impl Entries {
    fn put(&self, out: &mut BytesMut) {
        let list = |out: &mut BytesMut, entries: &[Bytes]| {
            out.put_u16(entries.len() as u16);
            for entry in entries {
                out.put_u16(entry.len() as u16);
                out.put_slice(entry);
            }
        };
        match self {
            Self::Ask { run, epoch, index, count } => {
                out.put_u8(0);
                out.put_u8(*run);
                out.put_u64(epoch.0);
                out.put_u32(index.0);
                out.put_u16(*count);
            }
            Self::Answer { run, entries } => {
                out.put_u8(1);
                out.put_u8(*run);
                list(out, entries);
            }
            Self::Push { entries } => {
                out.put_u8(2);
                list(out, entries);
            }
        }
    }
}

/// Checks that a cover's stripe count is in bounds and that no bit names a stripe beyond it.
fn cover(r: &Reading<'_>, k: u8, part: u8, stripes: u32) -> Result<Cover, WireError> {
    if k == 0 || k > STRIPES_MAX {
        return r.value("stripe count", u64::from(k));
    }
    let mask = if k == 32 { u32::MAX } else { (1u32 << k) - 1 };
    if stripes & !mask != 0 {
        return r.value("stripes", u64::from(stripes));
    }
    Ok(Cover { k, stripes, part })
}

fn parse_subscribe<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Option<Subscribe>, WireError> {
    let (rest, (id, kind)) = r.take(input, (be_u8, be_u8))?;
    let stripe = match kind {
        0 => Stripe::Blocks,
        1 => Stripe::Entries,
        _ => return Ok(None),
    };
    let (rest, (k, part, stripes)) = r.take(rest, (be_u8, be_u8, be_u32))?;
    let (rest, (epoch, first, last)) = r.take(rest, (epoch, block, block))?;
    if usize::from(id) >= super::limits::SUBSCRIPTIONS_MAX {
        return r.value("id", u64::from(id));
    }
    let cover = cover(r, k, part, stripes)?;
    if cover.is_empty() {
        return r.value("part", u64::from(part));
    }
    Ok(Some(Subscribe { id, stripe, epoch, cover, first, last, ext: r.ext(rest)? }))
}

fn parse_grant<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Grant, WireError> {
    let (rest, (id, reason, k, part, stripes)) =
        r.take(input, (be_u8, reason, be_u8, be_u8, be_u32))?;
    let (rest, (credit, epoch, first)) = r.take(rest, (be_u32, epoch, block))?;
    let cover = cover(r, k, part, stripes)?;
    Ok(Grant { id, reason, cover, credit, epoch, first, ext: r.ext(rest)? })
}

fn parse_skip<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Skip, WireError> {
    let (rest, (id, reason, count, epoch)) = r.take(input, (be_u8, reason, be_u16, epoch))?;
    if usize::from(count) > SKIP_BLOCKS_MAX {
        return r.value("blocks", u64::from(count));
    }
    let (rest, named) = r.take(rest, take(usize::from(count) * 8))?;
    let blocks = named
        .chunks_exact(8)
        .map(|b| BlockNo(u64::from_be_bytes(super::message::array(b))))
        .collect();
    r.ext(rest)?;
    Ok(Skip { id, reason, epoch, blocks })
}

fn parse_clock<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Option<Clock>, WireError> {
    let (rest, op) = r.take(input, be_u8)?;
    let (rest, clock) = match op {
        0 => {
            let (rest, mine_us) = r.take(rest, be_u64)?;
            (rest, Clock::Ask { mine_us })
        }
        1 => {
            let (rest, (mine_us, yours_us, arrived_us)) = r.take(rest, (be_u64, be_u64, be_u64))?;
            (rest, Clock::Answer { mine_us, yours_us, arrived_us })
        }
        _ => return Ok(None),
    };
    r.ext(rest)?;
    Ok(Some(clock))
}

fn parse_report<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Option<Report>, WireError> {
    let (rest, op) = r.take(input, be_u8)?;
    let row_len = match op {
        0 => 4,
        1 => 12,
        _ => return Ok(None),
    };
    let (rest, (report, count)) = r.take(rest, (be_u8, be_u8))?;
    let count = usize::from(count);
    if count > REPORT_CREDITS_MAX {
        return r.value("credits", count as u64);
    }
    let (rest, rows) = r.take(rest, take(count * row_len))?;
    let ext = r.ext(rest)?;
    let rows = rows.chunks_exact(row_len).map(|row| row.split_at(4));
    let credit = |bytes: &[u8]| u32::from_be_bytes(super::message::array(bytes));
    Ok(Some(if op == 0 {
        Report::Ask { report, credits: rows.map(|(id, _)| credit(id)).collect() }
    } else {
        let row = |(id, sum): (&[u8], &[u8])| {
            (credit(id), u64::from_be_bytes(super::message::array(sum)))
        };
        let view = ext.get(VIEW).and_then(|value| View::parse(&value));
        Report::Answer { report, received: rows.map(row).collect(), view }
    }))
}

fn parse_proof<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Proof, WireError> {
    if input.len() > PROOF_LEN_MAX {
        return Err(r.wrong_len());
    }
    let (rest, first) = r.take(input, take(Claim::LEN))?;
    let (rest, second) = r.take(rest, take(Claim::LEN))?;
    r.ext(rest)?;
    let claim = |bytes| {
        Claim::parse(bytes).map_err(|_| WireError::Value {
            message: r.name,
            field: "claim",
            value: 0,
        })
    };
    Ok(Proof { first: claim(first)?, second: claim(second)? })
}

fn parse_offer<'a>(r: &Reading<'a>, input: Input<'a>) -> Result<Offer, WireError> {
    let (rest, (epoch, base_ms, entries_ms)) = r.take(input, (epoch, be_u16, be_u16))?;
    let (rest, (upload, room, mean, k)) = r.take(rest, (be_u16, be_u16, be_u16, be_u8))?;
    if epoch.0 >= Epoch::END {
        return r.value("epoch", epoch.0);
    }
    if k == 0 || k > STRIPES_MAX {
        return r.value("stripe count", u64::from(k));
    }
    let (rest, rows) = r.take(rest, take(usize::from(k) * 5))?;
    let stripes = rows.chunks_exact(5).map(|row| {
        let [high, low, bar, below, branch] = super::message::array(row);
        StripeOffer { lag_ms: u16::from_be_bytes([high, low]), bar, below, branch }
    });
    let stripes = stripes.collect();
    Ok(Offer { epoch, base_ms, entries_ms, upload, room, mean, stripes, ext: r.ext(rest)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_cover() -> impl Strategy<Value = Cover> {
        (1u8..=32, any::<u32>(), 1u8..=255).prop_map(|(k, stripes, part)| {
            let mask = if k == 32 { u32::MAX } else { (1 << k) - 1 };
            Cover { k, stripes: (stripes & mask).max(1), part }
        })
    }

    fn reason_any() -> impl Strategy<Value = Reason> {
        any::<u8>().prop_map(Reason)
    }

    fn any_live() -> impl Strategy<Value = Live> {
        let bytes = |max| prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        let epoch = (0u64..Epoch::END).prop_map(Epoch);
        let index = any::<u32>().prop_map(PieceIndex);
        let block = any::<u64>().prop_map(BlockNo);
        let reason = any::<u8>().prop_map(Reason);
        prop_oneof![
            (epoch.clone(), index.clone(), any::<u32>(), any::<u8>(), reason.clone(), bytes(64))
                .prop_map(|(epoch, base, kept_ms, hops, reason, bitmap)| {
                    let ext = Tlvs::default();
                    Live::Window(Window { epoch, base, kept_ms, hops, reason, bitmap, ext })
                }),
            (any::<u8>(), epoch.clone(), index, 1u16..=256).prop_map(
                |(run, epoch, index, count)| {
                    Live::Entries(Entries::Ask { run, epoch, index, count })
                }
            ),
            (any::<u8>(), prop::collection::vec(bytes(300), 0..9))
                .prop_map(|(run, entries)| Live::Entries(Entries::Answer { run, entries })),
            prop::collection::vec(bytes(300), 0..9)
                .prop_map(|entries| Live::Entries(Entries::Push { entries })),
            (0u8..64, epoch.clone(), any_cover(), block.clone(), block.clone()).prop_map(
                |(id, epoch, cover, first, last)| {
                    let (stripe, ext) = (Stripe::Blocks, Tlvs::default());
                    Live::Subscribe(Subscribe { id, stripe, epoch, cover, first, last, ext })
                }
            ),
            (any::<u8>(), reason.clone(), any_cover(), any::<u32>(), epoch.clone(), block.clone())
                .prop_map(|(id, reason, cover, credit, epoch, first)| {
                    let ext = Tlvs::default();
                    Live::Grant(Grant { id, reason, cover, credit, epoch, first, ext })
                }),
            (any::<u8>(), reason.clone(), epoch.clone(), prop::collection::vec(block, 0..256))
                .prop_map(|(id, reason, epoch, blocks)| Live::Skip(Skip {
                    id,
                    reason,
                    epoch,
                    blocks
                })),
            (any::<u8>(), reason).prop_map(|(id, reason)| Live::End(End { id, reason })),
            any::<u64>().prop_map(|mine_us| Live::Clock(Clock::Ask { mine_us })),
            any::<[u64; 3]>().prop_map(|[mine_us, yours_us, arrived_us]| Live::Clock(
                Clock::Answer { mine_us, yours_us, arrived_us }
            )),
            (
                epoch.clone(),
                any::<[u16; 5]>(),
                prop::collection::vec(any::<(u16, u8, u8, u8)>(), 1..33)
            )
                .prop_map(
                    |(epoch, [base_ms, entries_ms, upload, room, mean], stripes)| {
                        let stripe = |(lag_ms, bar, below, branch)| StripeOffer {
                            lag_ms,
                            bar,
                            below,
                            branch,
                        };
                        let stripes = stripes.into_iter().map(stripe).collect();
                        let ext = Tlvs::default();
                        Live::Offer(Offer {
                            epoch,
                            base_ms,
                            entries_ms,
                            upload,
                            room,
                            mean,
                            stripes,
                            ext,
                        })
                    }
                ),
            (any::<u8>(), prop::collection::vec(any::<u32>(), 0..32))
                .prop_map(|(report, credits)| Live::Report(Report::Ask { report, credits })),
            (
                any::<u8>(),
                prop::collection::vec(any::<(u32, u64)>(), 0..32),
                prop::option::of((reason_any(), any::<[u16; VIEW_LAGS]>()))
            )
                .prop_map(|(report, received, view)| {
                    let view = view.map(|(reason, lag_ms)| View { reason, lag_ms });
                    Live::Report(Report::Answer { report, received, view })
                }),
        ]
    }

    proptest! {
        #[test]
        fn every_live_message_reads_back_as_it_was_written(live in any_live()) {
            prop_assert_eq!(Live::parse(live.kind(), &live.encode()), Ok(Some(live)));
        }

        #[test]
        fn no_payload_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for kind in Kind::ALL {
                let _ = Live::parse(kind, &Bytes::from(bytes.clone()));
            }
        }
    }

    #[test]
    fn a_window_names_its_pieces() {
        let window = Window {
            epoch: Epoch(1),
            base: PieceIndex(100),
            kept_ms: 60_000,
            hops: 1,
            reason: Reason::NONE,
            bitmap: Bytes::from_static(&[0b1010_0000, 1]),
            ext: Tlvs::default(),
        };
        let held: Vec<u32> = window.held().map(|i| i.0).collect();
        assert_eq!(held, [100, 102, 115]);
        assert!(!window.has(PieceIndex(99)) && !window.has(PieceIndex(116)));
    }

    #[test]
    fn stripes_and_parts_cover_every_block_once() {
        let parts = [0x0fu8, 0xf0];
        for block in (0..1000).map(BlockNo) {
            let covered = (0..4)
                .flat_map(|s| parts.map(|part| Cover { k: 4, stripes: 1 << s, part }))
                .filter(|cover| cover.covers(block))
                .count();
            assert_eq!(covered, 1);
        }
    }

    #[test]
    fn an_offer_answers_for_any_count_of_stripes() {
        let stripe = |lag_ms| StripeOffer { lag_ms, bar: 0, below: lag_ms as u8, branch: 0 };
        let offer = Offer {
            epoch: Epoch(1),
            base_ms: 0,
            entries_ms: 0,
            upload: 0,
            room: 0,
            mean: 0,
            stripes: vec![stripe(10), stripe(20), stripe(30), stripe(UNKNOWN)],
            ext: Tlvs::default(),
        };
        // Stripe 4 of 8 has every second block of stripe 0 of 4.
        assert_eq!(offer.lag_ms(8, 4), Some(10));
        // Stripe 0 of 2 has the blocks of stripes 0 and 2 of 4.
        assert_eq!((offer.lag_ms(2, 0), offer.below(2, 0)), (Some(30), 30));
        assert_eq!((offer.lag_ms(2, 1), offer.lag_ms(3, 0)), (None, None));
    }

    #[test]
    fn forms_of_a_later_version_are_skipped_and_fields_behind_the_head_kept_apart() {
        for kind in [Kind::Entries, Kind::Clock, Kind::Report] {
            assert_eq!(Live::parse(kind, &Bytes::from_static(&[9])), Ok(None));
        }
        assert_eq!(Live::parse(Kind::Subscribe, &Bytes::from_static(&[0, 9])), Ok(None));
        let with_field = Bytes::from_static(&[3, 21, 0, 5, 0, 1, b'x']);
        let end = End { id: 3, reason: Reason::DONE };
        assert_eq!(Live::parse(Kind::End, &with_field), Ok(Some(Live::End(end))));
    }

    #[test]
    fn a_message_with_a_critical_field_of_a_later_version_is_skipped() {
        let critical = Bytes::from_static(&[3, 21, 0x80, 5, 0, 1, b'x']);
        assert_eq!(Live::parse(Kind::End, &critical), Ok(None));
        let cut = Bytes::from_static(&[3, 21, 0x80, 5, 0, 2, b'x']);
        assert!(Live::parse(Kind::End, &cut).is_err());
    }

    #[test]
    fn counts_beyond_their_limit_are_refused() {
        let mut window = vec![0; 18];
        window.extend([0x10, 0x00]);
        assert!(Live::parse(Kind::Window, &window.into()).is_err());
        let ask = [&[0u8, 1][..], &[0; 12], &257u16.to_be_bytes()].concat();
        assert!(Live::parse(Kind::Entries, &ask.into()).is_err());
        let skip = [&[0u8, 0][..], &257u16.to_be_bytes(), &[0; 8 + 257 * 8]].concat();
        assert!(Live::parse(Kind::Skip, &skip.into()).is_err());
        // 32 entries of 4 KiB are the limit together.
        let entry = [&4096u16.to_be_bytes()[..], &[0; 4096]].concat();
        let push = |n: u16| [&[2][..], &n.to_be_bytes(), &entry.repeat(n.into())].concat();
        assert!(Live::parse(Kind::Entries, &push(32).into()).is_ok());
        assert!(Live::parse(Kind::Entries, &push(33).into()).is_err());
    }
}
