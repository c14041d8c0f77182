//! Input for properties of parsers: arbitrary bytes, and a valid sample with damage, which reaches the parser's
//! depth. Other crates include this file by `#[path]`.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Values at which parsers of numbers, texts and lists fail.
const TOKENS: &[&str] = &[
    "",
    "0",
    "-1",
    "1e308",
    "NaN",
    "255",
    "4294967295",
    "4294967296",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "null",
    "true",
    "\"\"",
    "{}",
    "[]",
    "[[",
    "\0",
    "\n",
    "\r\n",
    " ",
    ",",
    ":",
    "/",
    ".",
    "..",
    "'",
    "\\",
    "é",
    "\u{202e}",
    "99999-12-31T23:59:60Z",
    "FFFFFFFF",
];

/// Maximum bytes that one change cuts or repeats.
const MAX_CHANGED_BYTES: usize = 300;

/// Change of a sample.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u32),
    Cut(Index, usize),
    Repeat(Index, usize),
    Splice(Index, usize, &'static str),
    Number(Index, &'static str),
    Truncate(Index),
}

/// Returns the sample with up to five changes or, one time in eight, arbitrary bytes.
pub(crate) fn damaged(sample: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let sample = sample.to_vec();
    let changed = prop::collection::vec(damage(), 0..=5).prop_map(move |damages| {
        let whole = sample.clone();
        damages
            .iter()
            .fold(whole, |bytes, damage| damage.apply(bytes))
    });
    let arbitrary = prop::collection::vec(any::<u8>(), 0..MAX_CHANGED_BYTES);
    prop_oneof![7 => changed, 1 => arbitrary]
}

/// Returns the damaged sample as text.
pub(crate) fn damaged_text(sample: &str) -> impl Strategy<Value = String> + use<> {
    damaged(sample.as_bytes()).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let token = || select(TOKENS);
    let length = || prop_oneof![0..4_usize, 0..MAX_CHANGED_BYTES];
    prop_oneof![
        3 => (at(), 0..8_u32).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => (at(), length()).prop_map(|(at, length)| Damage::Cut(at, length)),
        1 => (at(), length()).prop_map(|(at, length)| Damage::Repeat(at, length)),
        2 => (at(), length(), token()).prop_map(|(at, length, token)| Damage::Splice(at, length, token)),
        3 => (at(), token()).prop_map(|(at, token)| Damage::Number(at, token)),
        1 => at().prop_map(Damage::Truncate),
    ]
}

impl Damage {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let place = |at: &Index| at.index(bytes.len() + 1);
        let range = |at: &Index, length: usize| {
            let start = place(at);
            start..bytes.len().min(start + length)
        };
        match self {
            Self::Flip(at, bit) => {
                let at = place(at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Cut(at, length) => drop(bytes.drain(range(at, *length))),
            Self::Repeat(at, length) => {
                let range = range(at, *length);
                let end = range.end;
                let again: Vec<u8> = bytes.drain(range.clone()).collect();
                let twice = again.repeat(2);
                bytes.splice(range.start..end - again.len(), twice);
            }
            Self::Splice(at, length, token) => {
                bytes.splice(range(at, *length), token.bytes());
            }
            Self::Number(at, token) => {
                let start = place(at);
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let after = bytes.iter().skip(start).position(is_digit);
                let start = start + after.unwrap_or(0);
                let length = bytes
                    .iter()
                    .skip(start)
                    .take_while(|byte| is_digit(byte))
                    .count();
                bytes.splice(start..start + length, token.bytes());
            }
            Self::Truncate(at) => bytes.truncate(place(at)),
        }
        bytes
    }
}
