//! Damage at the level of bytes, done to events that were valid before.

use super::noise::pick;
use fastrand::Rng;

/// What turns one token into another.
const BYTES: &[u8] = b"{}[]:,\"\\ 0129-+.eEutrfn/\t\r\0\x1f\x7f\x80\xbf\xc0\xe2\xed\xf4\xff";

/// Sequences that are not UTF-8, one that is, and ends of things.
const SPANS: [&[u8]; 14] = [
    b"\xef\xbb\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xf0\x9f\x98\x80",
    b"{}",
    b"null",
    b"\"context\":null,",
    b",\"context\":{}",
    b"\\u0063",
    b"\\ud800",
    b"\\\\",
];

/// Changes `line` in one to three places. LF is the one byte that cannot occur in a line.
pub(crate) fn damage(line: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..=3) {
        if line.is_empty() {
            return;
        }
        once(line, rng);
    }
    for byte in line.iter_mut().filter(|byte| **byte == b'\n') {
        *byte = b' ';
    }
}

fn once(line: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.usize(..line.len());
    let end = line.len().min(at + 1 + rng.usize(..24));
    match rng.u8(..12) {
        0 => line[at] ^= 1 << rng.u8(..8),
        1 | 2 => line[at] = BYTES[rng.usize(..BYTES.len())],
        3 => line.insert(at, BYTES[rng.usize(..BYTES.len())]),
        4 => {
            line.remove(at);
        }
        5 => {
            line.drain(at..end);
        }
        6 => {
            let span = line[at..end].to_vec();
            line.splice(at..at, span);
        }
        7 => {
            let span = line[at..end].to_vec();
            let elsewhere = rng.usize(..=line.len());
            line.splice(elsewhere..elsewhere, span);
        }
        8 => {
            let span = SPANS[rng.usize(..SPANS.len())];
            line.splice(at..at, span.iter().copied());
        }
        9 => line.truncate(at),
        10 => {
            let span = SPANS[rng.usize(..SPANS.len())];
            line.splice(0..0, span.iter().copied());
        }
        _ => line.extend_from_slice(
            pick(rng, &["}", "]", " ", "\r", "\0", "{}", ",", "null", "\u{feff}", "\""]).as_bytes(),
        ),
    }
}
