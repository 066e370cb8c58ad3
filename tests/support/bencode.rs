//! Bencode for tests, on its own so that it shares no fault with the code under test.

use std::collections::BTreeMap;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// An integer.
    Int(i64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Self>),
    /// A dictionary.
    Dict(BTreeMap<Vec<u8>, Self>),
}

impl Value {
    /// The value under `key`, if this is a dictionary that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dict(map) => map.get(key.as_bytes()),
            _ => None,
        }
    }

    /// The integer, if it is one.
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The bytes, if it is a string.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A dictionary.
    pub(crate) fn dict<'a>(entries: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Dict(entries.into_iter().map(|(k, v)| (k.as_bytes().to_vec(), v)).collect())
    }

    /// A string.
    pub(crate) fn string(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }

    /// The bencoded bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let string = |bytes: &[u8]| [bytes.len().to_string().as_bytes(), b":", bytes].concat();
        match self {
            Self::Int(n) => format!("i{n}e").into_bytes(),
            Self::Bytes(bytes) => string(bytes),
            Self::List(items) => {
                let items: Vec<u8> = items.iter().flat_map(Self::encode).collect();
                [b"l", items.as_slice(), b"e"].concat()
            }
            Self::Dict(map) => {
                let pair = |(k, v): (&Vec<u8>, &Self)| [string(k), v.encode()].concat();
                let pairs: Vec<u8> = map.iter().flat_map(pair).collect();
                [b"d", pairs.as_slice(), b"e"].concat()
            }
        }
    }
}

/// Reads one value that fills `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
    let mut at = 0;
    let value = value(bytes, &mut at)?;
    (at == bytes.len()).then_some(value)
}

fn value(bytes: &[u8], at: &mut usize) -> Option<Value> {
    match *bytes.get(*at)? {
        b'i' => {
            let end = *at + bytes[*at..].iter().position(|&b| b == b'e')?;
            let number = std::str::from_utf8(&bytes[*at + 1..end]).ok()?.parse().ok()?;
            *at = end + 1;
            Some(Value::Int(number))
        }
        b'l' => {
            let mut items = Vec::new();
            *at += 1;
            while *bytes.get(*at)? != b'e' {
                items.push(value(bytes, at)?);
            }
            *at += 1;
            Some(Value::List(items))
        }
        b'd' => {
            let mut map = BTreeMap::new();
            *at += 1;
            while *bytes.get(*at)? != b'e' {
                map.insert(string(bytes, at)?, value(bytes, at)?);
            }
            *at += 1;
            Some(Value::Dict(map))
        }
        _ => string(bytes, at).map(Value::Bytes),
    }
}

fn string(bytes: &[u8], at: &mut usize) -> Option<Vec<u8>> {
    let colon = *at + bytes[*at..].iter().position(|&b| b == b':')?;
    let len: usize = std::str::from_utf8(&bytes[*at..colon]).ok()?.parse().ok()?;
    let content = bytes.get(colon + 1..(colon + 1).checked_add(len)?)?;
    *at = colon + 1 + len;
    Some(content.to_vec())
}
