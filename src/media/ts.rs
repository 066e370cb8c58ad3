//! Transport stream packets (ISO/IEC 13818-1, 2.4.3): finding them in any byte stream and reading
//! their heads. Payload is never altered, and what is no packet is handed on as what it is.

/// Bytes in a transport stream packet.
pub const PACKET_LEN: usize = 188;

/// The byte every packet begins with.
pub const SYNC: u8 = 0x47;

/// Packets whose first bytes must fit before an unknown stream counts as a transport stream.
const SYNC_PLACES: usize = 3;

/// One packet.
pub type Packet = [u8; PACKET_LEN];

/// Which elementary stream or table a packet belongs to (13 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u16);

impl Pid {
    /// The program association table.
    pub const PAT: Self = Self(0);
    /// Stuffing that carries nothing.
    pub const NULL: Self = Self(0x1FFF);

    /// Whether this is one of the numbers reserved for service information: network, service and
    /// event tables, time (ETSI EN 300 468, table 1).
    #[must_use]
    pub fn is_service_information(self) -> bool {
        (0x10..=0x1F).contains(&self.0)
    }
}

/// A moment of the program clock in ticks of 27 MHz; it wraps at [`Pcr::WRAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pcr(pub u64);

impl Pcr {
    /// Where the clock begins again at 0: 2^33 ticks of 90 kHz, about 26.5 hours.
    pub const WRAP: u64 = (1 << 33) * 300;

    /// Ticks from `earlier` to `self`, across a wrap if there was one.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        (self.0 % Self::WRAP + Self::WRAP - earlier.0 % Self::WRAP) % Self::WRAP
    }

    /// What the clock shows `us` microseconds later.
    #[must_use]
    pub fn after_us(self, us: u64) -> Self {
        Self((self.0 % Self::WRAP + (us % (Self::WRAP / 27)) * 27) % Self::WRAP)
    }
}

/// What the head of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose packet it is.
    pub pid: Pid,
    /// Whether a table section or a PES packet begins in its payload.
    pub unit_start: bool,
    /// Whether the sender knows it to be damaged, or its own fields contradict each other.
    pub damaged: bool,
    /// Whether its payload is scrambled.
    pub scrambled: bool,
    /// Counts the packets with payload of one PID, modulo 16.
    pub continuity: u8,
    /// The clock before and after this packet need not agree.
    pub discontinuity: bool,
    /// A decoder may start at the PES packet that begins here.
    pub random_access: bool,
    /// The program clock when this packet passes.
    pub pcr: Option<Pcr>,
    /// Where the payload begins; `None` if there is none.
    payload_at: Option<usize>,
}

impl Header {
    /// Reads the head of a packet.
    #[must_use]
    pub fn read(packet: &Packet) -> Self {
        let [_, b1, b2, b3, len, ..] = *packet;
        let (has_adaptation, has_payload) = (b3 & 0x20 != 0, b3 & 0x10 != 0);
        let mut header = Self {
            pid: Pid(u16::from_be_bytes([b1 & 0x1F, b2])),
            unit_start: b1 & 0x40 != 0,
            damaged: b1 & 0x80 != 0 || b3 & 0x30 == 0,
            scrambled: b3 & 0xC0 != 0,
            continuity: b3 & 0x0F,
            discontinuity: false,
            random_access: false,
            pcr: None,
            payload_at: has_payload.then_some(4),
        };
        if has_adaptation {
            let payload_at = 5 + usize::from(len);
            match packet.get(5..payload_at) {
                Some(field) => header.adaptation(field),
                None => header.damaged = true,
            }
            header.payload_at =
                (has_payload && !header.damaged && payload_at < PACKET_LEN).then_some(payload_at);
        }
        header
    }

    fn adaptation(&mut self, field: &[u8]) {
        let Some((flags, rest)) = field.split_first() else { return };
        self.discontinuity = flags & 0x80 != 0;
        self.random_access = flags & 0x40 != 0;
        if flags & 0x10 != 0 {
            self.pcr = rest.first_chunk().map(read_pcr);
        }
    }

    /// Whether the packet has payload.
    #[must_use]
    pub fn has_payload(&self) -> bool {
        self.payload_at.is_some()
    }

    /// Where in the packet the payload begins; the packet's end if there is none.
    #[must_use]
    pub fn payload_at(&self) -> usize {
        self.payload_at.unwrap_or(PACKET_LEN)
    }

    /// The payload of the packet this was read from; empty if there is none.
    #[must_use]
    pub fn payload<'a>(&self, packet: &'a Packet) -> &'a [u8] {
        packet.get(self.payload_at()..).unwrap_or_default()
    }
}

/// Where the program clock stands in a packet that has one: after the head, the length and the
/// flags of the adaptation field.
pub(super) const PCR_AT: usize = 6;

/// 33 bits of 90 kHz, six reserved bits, nine bits of 27 MHz.
fn read_pcr(field: &[u8; 6]) -> Pcr {
    let [a, b, c, d, e, f] = *field;
    let bits = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Pcr((bits >> 15) * 300 + (bits & 0x1FF))
}

/// Writes `pcr` the way [`Header::read`] reads it.
pub(super) fn write_pcr(pcr: Pcr) -> [u8; 6] {
    let ticks = pcr.0 % Pcr::WRAP;
    let bits = ((ticks / 300) << 15) | (0x3F << 9) | (ticks % 300);
    let [_, _, out @ ..] = bits.to_be_bytes();
    out
}

/// What a byte stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit<'a> {
    /// A packet that begins `at` bytes into the stream.
    Packet {
        /// Offset of its first byte since the framer was made.
        at: u64,
        /// The packet.
        packet: &'a Packet,
    },
    /// Bytes that are no packet.
    Junk {
        /// Offset of the first one.
        at: u64,
        /// How many.
        len: usize,
    },
}

/// Splits any byte stream into packets, whatever the sizes in which it arrives.
///
/// Packets are looked for until the sync byte shows at three successive places, then taken one by
/// one as long as each begins with it. At most 376 bytes wait for the next push. The units and
/// their offsets are a function of the bytes alone, not of how they were cut up for `push`.
#[derive(Clone, Debug)]
pub struct Framer {
    /// The bytes that wait, copied.
    carry: Vec<u8>,
    /// Offset of the first of them.
    at: u64,
    locked: bool,
    /// Junk since packets were last seen.
    junk_len: u64,
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

impl Framer {
    /// A framer for a stream that begins now, perhaps in the middle of a packet.
    #[must_use]
    pub fn new() -> Self {
        Self { carry: Vec::new(), at: 0, locked: false, junk_len: 0 }
    }

    /// Offset of the first byte that is not yet part of a unit.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Bytes since the last packet that were none; 0 while packets follow each other.
    #[must_use]
    pub fn junk_len(&self) -> u64 {
        self.junk_len
    }

    /// Takes the next bytes and hands each unit that they complete to `each`.
    pub fn push(&mut self, chunk: &[u8], each: impl FnMut(Unit<'_>)) {
        self.run(chunk, false, each);
    }

    /// The stream is over: hands on what waited, as packets where whole ones fit, otherwise as
    /// junk. Afterwards the framer looks for packets as at the beginning.
    pub fn finish(&mut self, each: impl FnMut(Unit<'_>)) {
        self.run(&[], true, each);
        self.locked = false;
    }

    fn run(&mut self, chunk: &[u8], is_last: bool, mut each: impl FnMut(Unit<'_>)) {
        let carry = std::mem::take(&mut self.carry);
        let view = View { carry: &carry, chunk };
        let mut done = 0;
        while done < view.len() {
            let step = if self.locked {
                Step::locked(view, done)
            } else {
                Step::seeking(view, done, is_last)
            };
            let at = self.at + done as u64;
            match step {
                Step::Packet => {
                    let mut scratch = [0; PACKET_LEN];
                    each(Unit::Packet { at, packet: view.packet(done, &mut scratch) });
                    self.locked = true;
                    self.junk_len = 0;
                    done += PACKET_LEN;
                }
                Step::Lost => self.locked = false,
                Step::Wait if !is_last => break,
                Step::Wait => {
                    each(Unit::Junk { at, len: view.len() - done });
                    done = view.len();
                }
                Step::Junk(len) => {
                    each(Unit::Junk { at, len });
                    self.junk_len += len as u64;
                    done += len;
                }
            }
        }
        self.at += done as u64;
        self.carry = view.rest(done);
    }
}

/// What can be said about the bytes at one place.
enum Step {
    /// A packet begins here and is whole.
    Packet,
    /// A packet should begin here and does not.
    Lost,
    /// More bytes are needed.
    Wait,
    /// So many bytes belong to no packet.
    Junk(usize),
}

impl Step {
    fn locked(view: View<'_>, from: usize) -> Self {
        match view.byte(from) {
            Some(SYNC) if from + PACKET_LEN <= view.len() => Self::Packet,
            Some(SYNC) | None => Self::Wait,
            Some(_) => Self::Lost,
        }
    }

    /// `lenient` takes places beyond the end of the bytes for fitting ones.
    fn seeking(view: View<'_>, from: usize, lenient: bool) -> Self {
        for start in from..view.len() {
            let mut open = false;
            let fits = (0..SYNC_PLACES).all(|n| match view.byte(start + n * PACKET_LEN) {
                Some(byte) => byte == SYNC,
                None => {
                    open = true;
                    true
                }
            });
            if !fits {
                continue;
            }
            if start > from {
                return Self::Junk(start - from);
            }
            let is_whole = start + PACKET_LEN <= view.len();
            return if is_whole && (lenient || !open) { Self::Packet } else { Self::Wait };
        }
        Self::Junk(view.len() - from)
    }
}

/// The bytes that waited and those that have just come, as one.
#[derive(Clone, Copy)]
struct View<'a> {
    carry: &'a [u8],
    chunk: &'a [u8],
}

impl<'a> View<'a> {
    fn len(self) -> usize {
        self.carry.len() + self.chunk.len()
    }

    fn byte(self, at: usize) -> Option<u8> {
        match at.checked_sub(self.carry.len()) {
            None => self.carry.get(at).copied(),
            Some(at) => self.chunk.get(at).copied(),
        }
    }

    /// The packet at `from`, copied into `scratch` only if it lies on both sides.
    fn packet<'s>(self, from: usize, scratch: &'s mut Packet) -> &'s Packet
    where
        'a: 's,
    {
        let in_chunk = from
            .checked_sub(self.carry.len())
            .and_then(|at| self.chunk.get(at..)?.first_chunk::<PACKET_LEN>());
        if let Some(packet) = in_chunk {
            return packet;
        }
        for (n, out) in scratch.iter_mut().enumerate() {
            *out = self.byte(from + n).unwrap_or_default();
        }
        scratch
    }

    fn rest(self, from: usize) -> Vec<u8> {
        let (carry, chunk) = match from.checked_sub(self.carry.len()) {
            None => (self.carry.get(from..), Some(self.chunk)),
            Some(at) => (None, self.chunk.get(at..)),
        };
        [carry.unwrap_or_default(), chunk.unwrap_or_default()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::media::sample;

    fn units(bytes: &[u8], sizes: &[usize]) -> Vec<(u64, usize, bool)> {
        let mut framer = Framer::new();
        let mut out: Vec<(u64, usize, bool)> = Vec::new();
        let mut take = |unit: Unit<'_>| match unit {
            Unit::Packet { at, packet } => out.push((at, packet.len(), true)),
            Unit::Junk { at, len } => match out.last_mut() {
                // How junk is divided is no statement about the stream.
                Some((_, total, false)) => *total += len,
                _ => out.push((at, len, false)),
            },
        };
        for chunk in sample::chunks(bytes, sizes) {
            framer.push(chunk, &mut take);
        }
        framer.finish(&mut take);
        out
    }

    #[test]
    fn packets_are_found_behind_an_unaligned_start() {
        let mut bytes = vec![0x47, 0, 0x47];
        bytes.extend(sample::null().repeat(4));
        let found = units(&bytes, &[]);
        assert_eq!(found[0], (0, 3, false));
        assert_eq!(found[1..].iter().filter(|(_, _, packet)| *packet).count(), 4);
    }

    #[test]
    fn a_damaged_stretch_is_junk_and_the_packets_after_it_are_found() {
        let mut bytes = sample::null().repeat(4);
        bytes.extend([1; 77]);
        bytes.extend(sample::null().repeat(4));
        assert_eq!(units(&bytes, &[])[4], (4 * 188, 77, false));
        assert_eq!(units(&bytes, &[]).len(), 9);
    }

    #[test]
    fn the_program_clock_reads_as_written_and_knows_its_wrap() {
        for ticks in [0, 1, 299, 300, 12_345_678_901, Pcr::WRAP - 1] {
            assert_eq!(read_pcr(&write_pcr(Pcr(ticks))), Pcr(ticks));
        }
        assert_eq!(Pcr(5).since(Pcr(Pcr::WRAP - 5)), 10);
    }

    #[test]
    fn an_adaptation_field_longer_than_its_packet_is_damage() {
        let mut packet = sample::null();
        packet[3] = 0x30;
        packet[4] = 184;
        let header = Header::read(&packet);
        assert!(header.damaged && !header.has_payload());
        assert!(header.payload(&packet).is_empty());
    }

    proptest! {
        #[test]
        fn units_cover_every_byte_and_do_not_depend_on_chunking(
            bytes in sample::stream(), sizes in sample::sizes(),
        ) {
            let whole = units(&bytes, &[]);
            let mut next = 0;
            for (at, len, _) in &whole {
                prop_assert_eq!(*at, next);
                next += *len as u64;
            }
            prop_assert_eq!(next, bytes.len() as u64);
            prop_assert_eq!(units(&bytes, &sizes), whole);
        }

        #[test]
        fn any_packet_has_a_header(bytes in proptest::collection::vec(any::<u8>(), 188)) {
            let packet: Packet = bytes.try_into().expect("188 bytes");
            let header = Header::read(&packet);
            prop_assert_eq!(
                header.payload(&packet).len() + header.payload_at(), PACKET_LEN);
        }
    }
}
