//! Bencode (BEP 3, BEP 52): a bounded check, a borrowed tree, a canonical writer.
//!
//! Nothing a stranger sent is decoded before it was checked: a recursive decoder alone dies of a
//! few kilobytes of `l`. [`Reader`] walks the bytes once, without recursion and without memory of
//! its own beyond a fixed stack; [`check`] is that walk and nothing else, [`Value::parse`] builds a
//! tree on the way, [`from_checked`] hands checked bytes to serde_bencode.
//!
//! [`Mode::Strict`] takes exactly one spelling of each value, so that decoding and encoding again
//! gives the same bytes. [`Mode::Lenient`] lets the order of keys pass, as some peers and trackers
//! get it wrong; everything else stays enforced. A key that occurs twice is never taken from its
//! later place: [`raw_span`] takes the first, [`Value::parse`] and serde_bencode's structs refuse.

use nom::bytes::complete::take_while_m_n;
use nom::character::complete::char as one_char;
use nom::combinator::{opt, recognize};
use nom::sequence::pair;
use nom::{IResult, Parser};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use thiserror::Error;

use super::limits;

/// Nesting that no limit may exceed: the size of the reader's stack.
pub const DEPTH_CAP: usize = 64;

/// Digits in a number beyond which it cannot be in range.
const DIGITS_MAX: usize = 20;

/// How much sloppiness passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Canonical only: keys sorted as raw strings and unique.
    Strict,
    /// Keys in any order; the walk does not look for repeated ones.
    Lenient,
}

/// What a value may cost at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nesting of lists and dictionaries; above [`DEPTH_CAP`] it means [`DEPTH_CAP`].
    pub depth: usize,
    /// Integers, strings (keys too), lists and dictionaries together.
    pub tokens: usize,
    /// Bytes of the value.
    pub len: usize,
}

impl Limits {
    /// For messages of peers and trackers.
    pub const MESSAGE: Self = Self {
        depth: limits::BENCODE_DEPTH_MAX,
        tokens: limits::BENCODE_TOKENS_MAX,
        len: limits::TRACKER_REPLY_LEN_MAX,
    };
    /// For metainfo files and `info` dictionaries.
    pub const METAINFO: Self = Self {
        depth: limits::METAINFO_DEPTH_MAX,
        tokens: limits::METAINFO_TOKENS_MAX,
        len: limits::TORRENT_LEN_MAX,
    };
}

/// Why bytes are no acceptable bencode. Offsets count from the first byte looked at.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BencodeError {
    /// The value is longer than the limit.
    #[error("bencode of {len} bytes, limit {max}")]
    TooLong {
        /// Bytes there are (or were read so far).
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The bytes end inside a value.
    #[error("bencode ends inside a value at byte {offset}")]
    Truncated {
        /// Where the bytes end.
        offset: usize,
    },
    /// A byte that begins no value.
    #[error("bencode byte {byte:#04x} at {offset} begins no value")]
    Unexpected {
        /// Where it stands.
        offset: usize,
        /// The byte.
        byte: u8,
    },
    /// An integer with no digits, a leading zero, a plus sign or as `-0`.
    #[error("bencode integer at byte {offset} is not written canonically")]
    BadInteger {
        /// Where it begins.
        offset: usize,
    },
    /// An integer outside the signed 64-bit range.
    #[error("bencode integer at byte {offset} is outside 64 bits")]
    IntegerRange {
        /// Where it begins.
        offset: usize,
    },
    /// A string length with a leading zero, too many digits or without its colon.
    #[error("bencode string length at byte {offset} is not written canonically")]
    BadLength {
        /// Where it begins.
        offset: usize,
    },
    /// A string that claims more bytes than there are.
    #[error("bencode string at byte {offset} claims {claimed} bytes, {left} are left")]
    StringPastEnd {
        /// Where its length begins.
        offset: usize,
        /// The length it claims.
        claimed: u64,
        /// Bytes left behind its colon.
        left: usize,
    },
    /// Lists and dictionaries nested beyond the limit.
    #[error("bencode nested deeper than {max} at byte {offset}")]
    TooDeep {
        /// Where the level beyond the limit begins.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// More values than the limit.
    #[error("bencode has more than {max} values at byte {offset}")]
    TooManyTokens {
        /// Where the first value beyond the limit begins.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// A dictionary key that is not a string.
    #[error("bencode dictionary key at byte {offset} is not a string")]
    KeyNotString {
        /// Where it begins.
        offset: usize,
    },
    /// A dictionary that ends behind a key.
    #[error("bencode dictionary ends at byte {offset} with a key that has no value")]
    KeyWithoutValue {
        /// Where the dictionary ends.
        offset: usize,
    },
    /// A key that sorts before its predecessor (strict mode).
    #[error("bencode dictionary key at byte {offset} is out of order")]
    KeyOrder {
        /// Where it begins.
        offset: usize,
    },
    /// A key that its dictionary already has.
    #[error("bencode dictionary key at byte {offset} occurs twice")]
    DuplicateKey {
        /// Where it (or, in an unsorted dictionary, the dictionary's end) is.
        offset: usize,
    },
    /// Bytes behind the value.
    #[error("{extra} bytes behind the bencoded value that ends at {offset}")]
    Trailing {
        /// Where the value ends.
        offset: usize,
        /// Bytes behind it.
        extra: usize,
    },
    /// Well-formed, but not what was expected.
    #[error("bencode does not have the expected form: {0}")]
    Form(String),
}

impl BencodeError {
    /// A short name of the kind of error, for tests and machine-readable output.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too_long",
            Self::Truncated { .. } => "truncated",
            Self::Unexpected { .. } => "unexpected",
            Self::BadInteger { .. } => "bad_integer",
            Self::IntegerRange { .. } => "integer_range",
            Self::BadLength { .. } => "bad_length",
            Self::StringPastEnd { .. } => "string_past_end",
            Self::TooDeep { .. } => "too_deep",
            Self::TooManyTokens { .. } => "too_many_tokens",
            Self::KeyNotString { .. } => "key_not_string",
            Self::KeyWithoutValue { .. } => "key_without_value",
            Self::KeyOrder { .. } => "key_order",
            Self::DuplicateKey { .. } => "duplicate_key",
            Self::Trailing { .. } => "trailing",
            Self::Form(_) => "form",
        }
    }
}

/// One step through a bencoded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// An integer.
    Int(i64),
    /// A string; a dictionary's key if the dictionary is at one.
    Bytes(&'a [u8]),
    /// A list begins.
    List,
    /// A dictionary begins.
    Dict,
    /// The innermost list or dictionary ends.
    End,
}

/// What the reader expects next on one level.
#[derive(Clone, Copy)]
enum Level<'a> {
    /// Elements or the end.
    List,
    /// A key or the end; the key before it.
    Key(Option<&'a [u8]>),
    /// The value of this key.
    Value(&'a [u8]),
}

/// Walks one bencoded value token by token, within limits.
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
    mode: Mode,
    limits: Limits,
    tokens: usize,
    stack: [Level<'a>; DEPTH_CAP],
    depth: usize,
    done: bool,
}

impl<'a> Reader<'a> {
    /// A reader at the first byte of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], mode: Mode, limits: &Limits) -> Self {
        let limits = Limits { depth: limits.depth.min(DEPTH_CAP), ..*limits };
        let stack = [Level::List; DEPTH_CAP];
        Self { bytes, offset: 0, mode, limits, tokens: 0, stack, depth: 0, done: false }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Lists and dictionaries that are open.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The next token, or `None` once the first value is complete.
    ///
    /// # Errors
    /// The first rule that the bytes break; the reader is of no use after it.
    pub fn next_token(&mut self) -> Result<Option<Token<'a>>, BencodeError> {
        if self.done {
            return Ok(None);
        }
        let start = self.offset;
        let (token, len) = self.scan(start)?;
        self.offset = start.saturating_add(len);
        if self.offset > self.limits.len {
            return Err(BencodeError::TooLong { len: self.offset, max: self.limits.len });
        }
        if token != Token::End {
            self.tokens += 1;
            if self.tokens > self.limits.tokens {
                let max = self.limits.tokens;
                return Err(BencodeError::TooManyTokens { offset: start, max });
            }
        }
        self.place(token, start)?;
        self.done = self.depth == 0;
        Ok(Some(token))
    }

    /// Reads the token at `start`; its value and length.
    fn scan(&self, start: usize) -> Result<(Token<'a>, usize), BencodeError> {
        let rest = self.bytes.get(start..).unwrap_or_default();
        match rest.first() {
            None => Err(BencodeError::Truncated { offset: start }),
            Some(b'l') => Ok((Token::List, 1)),
            Some(b'd') => Ok((Token::Dict, 1)),
            Some(b'e') => Ok((Token::End, 1)),
            Some(b'i') => integer(rest, start).map(|(n, len)| (Token::Int(n), len)),
            Some(b'0'..=b'9') => string(rest, start).map(|(s, len)| (Token::Bytes(s), len)),
            Some(&byte) => Err(BencodeError::Unexpected { offset: start, byte }),
        }
    }

    /// Checks that `token` may stand where it does and moves the stack on.
    fn place(&mut self, token: Token<'a>, start: usize) -> Result<(), BencodeError> {
        let top = self.depth.checked_sub(1).and_then(|n| self.stack.get_mut(n));
        match (top, token) {
            (None, Token::End) => {
                return Err(BencodeError::Unexpected { offset: start, byte: b'e' });
            }
            (Some(Level::Value(_)), Token::End) => {
                return Err(BencodeError::KeyWithoutValue { offset: start });
            }
            (Some(_), Token::End) => {
                self.depth -= 1;
                return Ok(());
            }
            (Some(level @ Level::Key(_)), Token::Bytes(key)) => {
                if let Level::Key(Some(last)) = *level
                    && self.mode == Mode::Strict
                    && key <= last
                {
                    return Err(if key == last {
                        BencodeError::DuplicateKey { offset: start }
                    } else {
                        BencodeError::KeyOrder { offset: start }
                    });
                }
                *level = Level::Value(key);
                return Ok(());
            }
            (Some(Level::Key(_)), _) => return Err(BencodeError::KeyNotString { offset: start }),
            (Some(level), _) => {
                if let Level::Value(key) = *level {
                    *level = Level::Key(Some(key));
                }
            }
            (None, _) => {}
        }
        match token {
            Token::List => self.push(Level::List, start),
            Token::Dict => self.push(Level::Key(None), start),
            _ => Ok(()),
        }
    }

    fn push(&mut self, level: Level<'a>, start: usize) -> Result<(), BencodeError> {
        let max = self.limits.depth;
        match self.stack.get_mut(self.depth) {
            Some(slot) if self.depth < max => {
                *slot = level;
                self.depth += 1;
                Ok(())
            }
            _ => Err(BencodeError::TooDeep { offset: start, max }),
        }
    }
}

/// Up to [`DIGITS_MAX`] digits with an optional minus sign before them.
fn number(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let digits = take_while_m_n(1, DIGITS_MAX, |b: u8| b.is_ascii_digit());
    recognize(pair(opt(one_char('-')), digits)).parse(input)
}

/// Reads `i<number>e`; its value and length. `start` is where it stands, for errors.
fn integer(rest: &[u8], start: usize) -> Result<(i64, usize), BencodeError> {
    let bad = BencodeError::BadInteger { offset: start };
    let body = rest.get(1..).unwrap_or_default();
    let Ok((after, text)) = number(body) else {
        // A number cut short by the end of the bytes is not yet wrong.
        let cut = body.is_empty() || body == b"-";
        return Err(if cut { BencodeError::Truncated { offset: start } } else { bad });
    };
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if (digits.first() == Some(&b'0') && text.len() > 1) || digits.is_empty() {
        return Err(bad);
    }
    match after.first() {
        None => return Err(BencodeError::Truncated { offset: start }),
        Some(b'e') => {}
        Some(b'0'..=b'9') => return Err(BencodeError::IntegerRange { offset: start }),
        Some(_) => return Err(bad),
    }
    let value = std::str::from_utf8(text).ok().and_then(|t| t.parse::<i64>().ok());
    let value = value.ok_or(BencodeError::IntegerRange { offset: start })?;
    Ok((value, text.len() + 2))
}

/// Reads `<length>:<bytes>`; the bytes and the length of it all.
fn string(rest: &[u8], start: usize) -> Result<(&[u8], usize), BencodeError> {
    let bad = BencodeError::BadLength { offset: start };
    let digits =
        take_while_m_n::<_, _, nom::error::Error<&[u8]>>(1, DIGITS_MAX, |b: u8| b.is_ascii_digit());
    let Ok((after, text)) = { digits }.parse(rest) else { return Err(bad) };
    if text.first() == Some(&b'0') && text.len() > 1 {
        return Err(bad);
    }
    let payload = match after.split_first() {
        None => return Err(BencodeError::Truncated { offset: start }),
        Some((b':', payload)) => payload,
        Some(_) => return Err(bad),
    };
    let claimed = std::str::from_utf8(text).ok().and_then(|t| t.parse::<u64>().ok());
    let claimed = claimed.ok_or(bad)?;
    let left = payload.len();
    let past_end = BencodeError::StringPastEnd { offset: start, claimed, left };
    let bytes = usize::try_from(claimed).ok().and_then(|n| payload.get(..n)).ok_or(past_end)?;
    Ok((bytes, text.len() + 1 + bytes.len()))
}

/// Checks that `bytes` are one bencoded value and nothing else.
///
/// # Errors
/// The first rule that is broken.
pub fn check(bytes: &[u8], mode: Mode, limits: &Limits) -> Result<(), BencodeError> {
    if bytes.len() > limits.len {
        return Err(BencodeError::TooLong { len: bytes.len(), max: limits.len });
    }
    let end = check_prefix(bytes, mode, limits)?;
    no_trailing(bytes, end)
}

/// Checks the bencoded value that `bytes` begin with and returns its length; what follows it is
/// not looked at (BEP 9: raw metadata follows a dictionary).
///
/// # Errors
/// The first rule that is broken; `limits.len` is about the value only.
pub fn check_prefix(bytes: &[u8], mode: Mode, limits: &Limits) -> Result<usize, BencodeError> {
    let mut reader = Reader::new(bytes, mode, limits);
    while reader.next_token()?.is_some() {}
    Ok(reader.offset())
}

fn no_trailing(bytes: &[u8], end: usize) -> Result<(), BencodeError> {
    match bytes.len().saturating_sub(end) {
        0 => Ok(()),
        extra => Err(BencodeError::Trailing { offset: end, extra }),
    }
}

/// Checks `bytes` and decodes them with serde_bencode.
///
/// # Errors
/// The first rule that is broken, or [`BencodeError::Form`] if the value is not a `T`.
pub fn from_checked<T: DeserializeOwned>(
    bytes: &[u8],
    mode: Mode,
    limits: &Limits,
) -> Result<T, BencodeError> {
    check(bytes, mode, limits)?;
    serde_bencode::from_bytes(bytes).map_err(|e| BencodeError::Form(e.to_string()))
}

/// The raw bytes of the value of `key` in the dictionary that `bytes` are: what is hashed, as
/// encoding again could give other bytes. The first one if the key occurs twice; `None` if there
/// is none or `bytes` are no lenient bencode within [`Limits::METAINFO`].
#[must_use]
pub fn raw_span<'a>(bytes: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let mut reader = Reader::new(bytes, Mode::Lenient, &Limits::METAINFO);
    if reader.next_token().ok()? != Some(Token::Dict) {
        return None;
    }
    loop {
        // A key or the dictionary's end comes next.
        let Token::Bytes(found) = reader.next_token().ok()?? else { return None };
        let start = reader.offset();
        reader.next_token().ok()??;
        while reader.depth() > 1 {
            reader.next_token().ok()??;
        }
        if found == key {
            return bytes.get(start..reader.offset());
        }
    }
}

/// A bencoded value as a tree that borrows its strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bytes(&'a [u8]),
    /// A list.
    List(Vec<Self>),
    /// A dictionary, its entries in the order in which they came; no key occurs twice.
    Dict(Vec<Entry<'a>>),
}

/// One entry of a dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: Value<'a>,
    /// The bytes that the value was read from.
    pub raw: &'a [u8],
}

/// A list or dictionary that is not complete yet.
enum Open<'a> {
    List(Vec<Value<'a>>),
    Dict { entries: Vec<Entry<'a>>, key: Option<(&'a [u8], usize)> },
}

impl<'a> Value<'a> {
    /// Reads one value and nothing else, within `limits`.
    ///
    /// # Errors
    /// What [`check`] finds, and [`BencodeError::DuplicateKey`] in either mode.
    pub fn parse(bytes: &'a [u8], mode: Mode, limits: &Limits) -> Result<Self, BencodeError> {
        if bytes.len() > limits.len {
            return Err(BencodeError::TooLong { len: bytes.len(), max: limits.len });
        }
        let (value, end) = Self::parse_prefix(bytes, mode, limits)?;
        no_trailing(bytes, end)?;
        Ok(value)
    }

    /// Reads the value that `bytes` begin with; it and its length.
    ///
    /// # Errors
    /// As [`Value::parse`], but for what follows the value.
    pub fn parse_prefix(
        bytes: &'a [u8],
        mode: Mode,
        limits: &Limits,
    ) -> Result<(Self, usize), BencodeError> {
        let mut reader = Reader::new(bytes, mode, limits);
        // As deep as the reader's stack at most.
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            let start = reader.offset();
            let Some(token) = reader.next_token()? else {
                return Err(BencodeError::Truncated { offset: start });
            };
            let complete = match token {
                Token::Int(n) => Self::Int(n),
                Token::Bytes(text) => match open.last_mut() {
                    Some(Open::Dict { key: key @ None, .. }) => {
                        *key = Some((text, reader.offset()));
                        continue;
                    }
                    _ => Self::Bytes(text),
                },
                Token::List => {
                    open.push(Open::List(Vec::new()));
                    continue;
                }
                Token::Dict => {
                    open.push(Open::Dict { entries: Vec::new(), key: None });
                    continue;
                }
                Token::End => match open.pop() {
                    Some(Open::List(mut items)) => {
                        items.shrink_to_fit();
                        Self::List(items)
                    }
                    Some(Open::Dict { mut entries, .. }) => {
                        entries.shrink_to_fit();
                        if has_duplicate(&entries) {
                            return Err(BencodeError::DuplicateKey { offset: start });
                        }
                        Self::Dict(entries)
                    }
                    None => return Err(BencodeError::Unexpected { offset: start, byte: b'e' }),
                },
            };
            match open.last_mut() {
                None => return Ok((complete, reader.offset())),
                Some(Open::List(items)) => items.push(complete),
                Some(Open::Dict { entries, key }) => {
                    if let Some((key, from)) = key.take() {
                        let raw = bytes.get(from..reader.offset()).unwrap_or_default();
                        entries.push(Entry { key, value: complete, raw });
                    }
                }
            }
        }
    }

    /// The integer, if it is one.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        if let Self::Int(n) = self { Some(*n) } else { None }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The string, if it is one and UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The elements, if it is a list.
    #[must_use]
    pub fn list(&self) -> Option<&[Self]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }

    /// The entries, if it is a dictionary.
    #[must_use]
    pub fn dict(&self) -> Option<&[Entry<'a>]> {
        if let Self::Dict(entries) = self { Some(entries) } else { None }
    }

    /// The value of `key`, if it is a dictionary that has it.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Self> {
        self.dict()?.iter().find(|e| e.key == key).map(|e| &e.value)
    }
}

/// Whether a key occurs twice. Sorted entries cost one comparison each.
fn has_duplicate(entries: &[Entry<'_>]) -> bool {
    if entries.windows(2).all(|w| matches!(w, [a, b] if a.key < b.key)) {
        return false;
    }
    let mut keys: Vec<&[u8]> = entries.iter().map(|e| e.key).collect();
    keys.sort_unstable();
    keys.windows(2).any(|w| matches!(w, [a, b] if a == b))
}

/// Writes canonical bencode.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// The encoding of one dictionary.
    #[must_use]
    pub fn dict_of(fill: impl FnOnce(&mut DictEncoder)) -> Vec<u8> {
        let mut encoder = Self::default();
        encoder.dict(fill);
        encoder.finish()
    }

    /// Appends an integer.
    pub fn int(&mut self, value: i64) {
        self.out.extend_from_slice(format!("i{value}e").as_bytes());
    }

    /// Appends a string.
    pub fn bytes(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.out.extend_from_slice(format!("{}:", value.len()).as_bytes());
        self.out.extend_from_slice(value);
    }

    /// Appends a list of what `fill` writes.
    pub fn list(&mut self, fill: impl FnOnce(&mut Self)) {
        self.out.push(b'l');
        fill(self);
        self.out.push(b'e');
    }

    /// Appends a dictionary of what `fill` puts into it, in any order.
    pub fn dict(&mut self, fill: impl FnOnce(&mut DictEncoder)) {
        let mut dict = DictEncoder::default();
        fill(&mut dict);
        self.out.push(b'd');
        for (key, value) in dict.entries {
            self.bytes(key);
            self.out.extend_from_slice(&value);
        }
        self.out.push(b'e');
    }

    /// Appends bytes that are canonical bencode already.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// Appends a value, its dictionaries sorted.
    pub fn value(&mut self, value: &Value<'_>) {
        match value {
            Value::Int(n) => self.int(*n),
            Value::Bytes(bytes) => self.bytes(bytes),
            Value::List(items) => self.list(|e| items.iter().for_each(|item| e.value(item))),
            Value::Dict(entries) => self.dict(|d| {
                for entry in entries {
                    d.with(entry.key, |e| e.value(&entry.value));
                }
            }),
        }
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// The entries of a dictionary being written; sorted when it is complete. A key given twice keeps
/// its last value.
#[derive(Debug, Default)]
pub struct DictEncoder {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl DictEncoder {
    /// Gives `key` whatever `write` writes, which must be one value.
    pub fn with(&mut self, key: impl AsRef<[u8]>, write: impl FnOnce(&mut Encoder)) {
        let mut encoder = Encoder::default();
        write(&mut encoder);
        self.entries.insert(key.as_ref().to_vec(), encoder.finish());
    }

    /// Gives `key` an integer.
    pub fn int(&mut self, key: impl AsRef<[u8]>, value: i64) {
        self.with(key, |e| e.int(value));
    }

    /// Gives `key` a string.
    pub fn bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.with(key, |e| e.bytes(value));
    }

    /// Gives `key` a list.
    pub fn list(&mut self, key: impl AsRef<[u8]>, fill: impl FnOnce(&mut Encoder)) {
        self.with(key, |e| e.list(fill));
    }

    /// Gives `key` a dictionary.
    pub fn dict(&mut self, key: impl AsRef<[u8]>, fill: impl FnOnce(&mut Self)) {
        self.with(key, |e| e.dict(fill));
    }

    /// Gives `key` a value that is encoded already.
    pub fn raw(&mut self, key: impl AsRef<[u8]>, encoded: &[u8]) {
        self.with(key, |e| e.raw(encoded));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { depth: 4, tokens: 12, len: 64 };

    fn kind(bytes: &[u8], mode: Mode) -> &'static str {
        check(bytes, mode, &LIMITS).map_or_else(|e| e.kind(), |()| "ok")
    }

    #[test]
    fn one_spelling_of_each_value_passes_the_strict_check() {
        let table: &[(&[u8], &str)] = &[
            (b"i0e", "ok"),
            (b"i-1e", "ok"),
            (b"i9223372036854775807e", "ok"),
            (b"i-9223372036854775808e", "ok"),
            (b"0:", "ok"),
            (b"4:spam", "ok"),
            (b"le", "ok"),
            (b"de", "ok"),
            (b"d1:a0:1:bdee", "ok"),
            (b"lllleeee", "ok"),
            (b"", "truncated"),
            (b"i", "truncated"),
            (b"i-", "truncated"),
            (b"i1", "truncated"),
            (b"l", "truncated"),
            (b"d1:a", "truncated"),
            (b"12", "truncated"),
            (b"ie", "bad_integer"),
            (b"i-e", "bad_integer"),
            (b"i-0e", "bad_integer"),
            (b"i007e", "bad_integer"),
            (b"i-01e", "bad_integer"),
            (b"i+5e", "bad_integer"),
            (b"i1.5e", "bad_integer"),
            (b"i9223372036854775808e", "integer_range"),
            (b"i-9223372036854775809e", "integer_range"),
            (b"i99999999999999999999999e", "integer_range"),
            (b"01:x", "bad_length"),
            (b"1x", "bad_length"),
            (b"99999999999999999999999:x", "bad_length"),
            (b"18446744073709551615:", "string_past_end"),
            (b"2:x", "string_past_end"),
            (b"e", "unexpected"),
            (b"x", "unexpected"),
            (b"-1:a", "unexpected"),
            (b"di1ei2ee", "key_not_string"),
            (b"dlei1ee", "key_not_string"),
            (b"d1:ae", "key_without_value"),
            (b"d1:bi1e1:ai1ee", "key_order"),
            (b"d1:ai1e1:ai1ee", "duplicate_key"),
            (b"d2:aai1e1:ai1ee", "key_order"),
            (b"i1ei2e", "trailing"),
            (b"de\n", "trailing"),
            (b"llllleeeee", "too_deep"),
            (b"li1ei2ei3ei4ei5ei6ei7ei8ei9ei1ei2ei3ee", "too_many_tokens"),
        ];
        for (bytes, expected) in table {
            assert_eq!(kind(bytes, Mode::Strict), *expected, "{}", bytes.escape_ascii());
        }
        assert_eq!(kind(&[b'l'; 65], Mode::Strict), "too_long");
    }

    #[test]
    fn the_lenient_check_lets_only_the_order_of_keys_pass() {
        assert_eq!(kind(b"d1:bi1e1:ai1ee", Mode::Lenient), "ok");
        assert_eq!(kind(b"d1:bi1e1:ai01ee", Mode::Lenient), "bad_integer");
        assert_eq!(kind(b"i1ei2e", Mode::Lenient), "trailing");
        assert_eq!(kind(b"llllleeeee", Mode::Lenient), "too_deep");
    }

    #[test]
    fn a_key_that_occurs_twice_is_never_taken_from_its_later_place() {
        let twice = b"d1:ai1e1:b0:1:ai2ee";
        assert_eq!(kind(twice, Mode::Lenient), "ok");
        assert_eq!(raw_span(twice, b"a"), Some(&b"i1e"[..]));
        let error = Value::parse(twice, Mode::Lenient, &LIMITS).expect_err("twice");
        assert_eq!(error.kind(), "duplicate_key");
        #[derive(Debug, serde::Deserialize)]
        struct Typed {
            #[expect(dead_code)]
            a: i64,
        }
        assert!(from_checked::<Typed>(twice, Mode::Lenient, &LIMITS).is_err());
    }

    #[test]
    fn a_depth_bomb_costs_no_stack() {
        for byte in [b'l', b'd'] {
            let bomb = vec![byte; 1 << 20];
            let error = check(&bomb, Mode::Lenient, &Limits::METAINFO).expect_err("bomb");
            assert!(matches!(error.kind(), "too_deep" | "key_not_string"), "{error}");
        }
        let limits = Limits { depth: usize::MAX, tokens: usize::MAX, len: usize::MAX };
        let error = check(&vec![b'l'; 1 << 20], Mode::Strict, &limits).expect_err("bomb");
        assert_eq!(error, BencodeError::TooDeep { offset: DEPTH_CAP, max: DEPTH_CAP });
    }

    #[test]
    fn the_length_of_a_prefix_leaves_what_follows_alone() {
        let message = b"d8:msg_typei1e5:piecei0eeRAW DATA";
        assert_eq!(check_prefix(message, Mode::Strict, &LIMITS), Ok(25));
        let (value, len) = Value::parse_prefix(message, Mode::Strict, &LIMITS).expect("dict");
        assert_eq!((value.get(b"piece"), len), (Some(&Value::Int(0)), 25));
    }

    #[test]
    fn spans_are_the_bytes_that_came() {
        let file = b"d4:infod1:ai1ee3:zzzi2ee";
        assert_eq!(raw_span(file, b"info"), Some(&b"d1:ai1ee"[..]));
        assert_eq!(raw_span(file, b"zzz"), Some(&b"i2e"[..]));
        assert_eq!(raw_span(file, b"a"), None);
        assert_eq!(raw_span(b"le", b"a"), None);
        assert_eq!(raw_span(b"d4:info", b"info"), None);
        let value = Value::parse(file, Mode::Strict, &LIMITS).expect("valid");
        assert_eq!(value.dict().map(|d| d[0].raw), Some(&b"d1:ai1ee"[..]));
    }

    #[test]
    fn a_dictionary_is_written_in_order() {
        let bytes = Encoder::dict_of(|d| {
            d.int("z", -3);
            d.bytes("a", b"x\0");
            d.list("m", |l| {
                l.int(0);
                l.bytes("");
            });
        });
        assert_eq!(bytes, b"d1:a2:x\x001:mli0e0:e1:zi-3ee");
        assert_eq!(kind(&bytes, Mode::Strict), "ok");
    }

    /// Values that nest a little.
    fn values() -> impl Strategy<Value = serde_bencode::value::Value> {
        use serde_bencode::value::Value as V;
        let leaf = prop_oneof![
            any::<i64>().prop_map(V::Int),
            proptest::collection::vec(any::<u8>(), 0..12).prop_map(V::Bytes),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(V::List),
                proptest::collection::hash_map(
                    proptest::collection::vec(any::<u8>(), 0..6),
                    inner,
                    0..6
                )
                .prop_map(V::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_canonical_and_written_alike(value in values()) {
            let bytes = serde_bencode::to_bytes(&value).expect("encodes");
            prop_assert_eq!(check(&bytes, Mode::Strict, &Limits::MESSAGE), Ok(()));
            let tree = Value::parse(&bytes, Mode::Strict, &Limits::MESSAGE).expect("checked");
            let mut encoder = Encoder::default();
            encoder.value(&tree);
            prop_assert_eq!(encoder.finish(), bytes);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in "[ilde0-9:a-]{0,40}") {
            let strict = check(bytes.as_bytes(), Mode::Strict, &Limits::MESSAGE);
            let lenient = check(bytes.as_bytes(), Mode::Lenient, &Limits::MESSAGE);
            prop_assert!(strict.is_err() || lenient.is_ok());
            if strict.is_ok() {
                let value: serde_bencode::value::Value =
                    from_checked(bytes.as_bytes(), Mode::Strict, &Limits::MESSAGE).expect("any");
                let again = serde_bencode::to_bytes(&value).expect("encodes");
                prop_assert_eq!(again, bytes.as_bytes());
            }
        }
    }
}
