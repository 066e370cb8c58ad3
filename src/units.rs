//! Strong types for the numbers of the protocol: which of them must not be mixed up.

use std::fmt;
use std::time::Duration;

/// Bytes in a block: the verified and relayed unit (BEP 3 request size, BEP 52 leaf size).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The time a machine is told: when it is, on two clocks.
///
/// `mono_us` never goes back and drives every deadline. `wall_us` is what the machine's clock on
/// the wall says; it may be wrong by hours and may jump, so it is only compared and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds since the driver started.
    pub mono: Time,
    /// Microseconds since the Unix epoch, by the local clock.
    pub wall: UnixUs,
}

/// Microseconds since the driver started (monotonic).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The moment the driver started.
    pub const ZERO: Self = Self(0);
    /// Later than anything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// `self + delay`, without wrapping.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)))
    }

    /// `self + us` microseconds, without wrapping.
    #[must_use]
    pub fn after_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// How long ago `earlier` was; zero if it is not in the past.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Microseconds since `earlier`; zero if it is not in the past.
    #[must_use]
    pub fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixUs(pub u64);

impl UnixUs {
    /// Microseconds from `earlier` to `self`, negative if `earlier` is later.
    #[must_use]
    pub fn minus(self, earlier: Self) -> i64 {
        let (a, b) = (i128::from(self.0), i128::from(earlier.0));
        i64::try_from(a - b).unwrap_or(if a > b { i64::MAX } else { i64::MIN })
    }

    /// Whole Unix seconds.
    #[must_use]
    pub fn secs(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// One run of a source (`specs/feed.md`, section Epochs): a Unix second times 2^20 plus 20 random
/// bits, below 2^53. The higher one wins everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Epochs are below this, so that they survive JSON.
    pub const END: u64 = 1 << 53;

    /// The Unix second in which the epoch was opened, as its opener understood it.
    #[must_use]
    pub fn unix_s(self) -> u64 {
        self.0 >> 20
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Absolute number of a piece; it never wraps and never starts again within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// The piece `n` places on, or the last possible one.
    #[must_use]
    pub fn plus(self, n: u32) -> Self {
        Self(self.0.saturating_add(n))
    }

    /// The piece `n` places back, or the first possible one.
    #[must_use]
    pub fn minus(self, n: u32) -> Self {
        Self(self.0.saturating_sub(n))
    }

    /// The next piece.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where in the stream's history something stands: ordered by epoch, then by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq {
    /// The source run.
    pub epoch: Epoch,
    /// The piece within all runs.
    pub index: PieceIndex,
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.index)
    }
}

/// Number of a block since the epoch began, over all its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockNo(pub u64);

/// One block of one piece: what is asked for, sent and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// The piece.
    pub piece: PieceIndex,
    /// The block within the piece, counted from 0 (offset = `block * BLOCK_LEN`).
    pub block: u16,
}

/// SHA-1 of the raw `info` dictionary (BEP 3), or a v2 one cut to 20 bytes (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// Reads 40 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut out = [0u8; 20];
        hex_into(text, &mut out).then_some(Self(out))
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// SHA-256 of the raw `info` dictionary of a v2 or hybrid torrent (BEP 52).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InfoHashV2(pub [u8; 32]);

impl InfoHashV2 {
    /// The first 20 bytes: how trackers, the DHT and handshakes name a v2 torrent.
    #[must_use]
    pub fn truncated(self) -> InfoHash {
        let mut out = [0u8; 20];
        out.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        InfoHash(out)
    }
}

impl fmt::Display for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for InfoHashV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The 20 bytes by which a peer names itself (BEP 3, BEP 20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// The prefix of this client (BEP 20, Azureus style).
    pub const PREFIX: [u8; 8] = *b"-BL0100-";

    /// A peer id of this client from twelve random bytes.
    #[must_use]
    pub fn ours(random: [u8; 12]) -> Self {
        let mut id = [0u8; 20];
        let (prefix, tail) = id.split_at_mut(8);
        prefix.copy_from_slice(&Self::PREFIX);
        tail.copy_from_slice(&random);
        Self(id)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// One connection, named by whoever drives it; never reused within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Link(pub u64);

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Fills `out` from exactly twice as many hexadecimal digits; false if `text` is anything else.
#[must_use]
pub fn hex_into(text: &str, out: &mut [u8]) -> bool {
    let digits = text.as_bytes();
    if digits.len() != out.len() * 2 {
        return false;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (Some(high), Some(low)) =
            (char::from(pair[0]).to_digit(16), char::from(pair[1]).to_digit(16))
        else {
            return false;
        };
        *byte = (high * 16 + low) as u8;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_back_what_it_wrote() {
        let hash = InfoHash([0xa5; 20]);
        assert_eq!(InfoHash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(InfoHash::from_hex("a5"), None);
        assert_eq!(InfoHash::from_hex(&"g".repeat(40)), None);
    }

    #[test]
    fn seq_orders_by_epoch_before_index() {
        let old = Seq { epoch: Epoch(1), index: PieceIndex(900) };
        let new = Seq { epoch: Epoch(2), index: PieceIndex(3) };
        assert!(new > old);
    }

    #[test]
    fn time_never_wraps() {
        assert_eq!(Time::NEVER.after_us(1), Time::NEVER);
        assert_eq!(Time(5).since_us(Time(9)), 0);
        assert_eq!(UnixUs(3).minus(UnixUs(5)), -2);
    }
}
