//! What is known of a row since the last sync, and its bytes. Pure.
//!
//! | offset | bytes | what |
//! | ---: | ---: | --- |
//! | 0 | 16 | hash of its content |
//! | 16 | 16 | second half of its last `messageId` |
//! | 32 | 4 | generation: rows of another count as new |
//! | 36 | 1 | 1 if it may have been sent since, in a version that is not noted; else 0 |
//! | 37 | 1 | number of destinations that have it, if at most 254; 255: 2 more bytes say it |
//! | | 32 | categories that it granted |
//! | | 4 each | stable IDs of these destinations; the highest bit: it has no version but the last |
//! | | 16 | hash of that version, zeros if it was told that the row is gone; only behind a 1 at 36 |
//! | | | its unique id as JSON |
//!
//! All numbers are unsigned and little-endian.

/// Tells rows apart: 16 bytes of BLAKE3 over the model's name and the unique id.
pub(super) type Key = [u8; 16];

/// 16 bytes of BLAKE3.
pub(super) type Digest = [u8; 16];

/// The bit of a stable ID that says that its destination has no version but the last.
const FRESH: u32 = 1 << 31;

/// The hash of a row of which is not certain which version its destinations have: no content has it, so
/// that the row counts as changed.
pub(super) const UNCERTAIN: Digest = [u8::MAX; 16];

/// A row as the last sync left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) hash: Digest,
    pub(super) message: Digest,
    pub(super) generation: u32,
    pub(super) granted: [u64; 4],
    /// The destinations that have it, by stable ID, ascending.
    pub(super) held: Vec<u32>,
    /// Those of them that have no version but the last, if they took it.
    pub(super) fresh: Vec<u32>,
    /// The content that may have been sent under `message`, of a row that is [`UNCERTAIN`].
    pub(super) sent: Option<Digest>,
    /// JSON.
    pub(super) id: Vec<u8>,
}

impl Known {
    /// Whether the row is gone, and some destination still has to be told.
    pub(super) fn is_gone(&self) -> bool {
        self.hash == Digest::default()
    }

    /// Appends its bytes.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.hash);
        bytes.extend_from_slice(&self.message);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.push(self.sent.is_some().into());
        match u8::try_from(self.held.len()) {
            Ok(count @ 0..=254) => bytes.push(count),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(self.held.len() as u16).to_le_bytes());
            }
        }
        self.granted.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        for id in &self.held {
            let mark = if self.fresh.contains(id) { FRESH } else { 0 };
            bytes.extend_from_slice(&(id | mark).to_le_bytes());
        }
        bytes.extend_from_slice(self.sent.as_ref().map_or(&[], |sent| sent.as_slice()));
        bytes.extend_from_slice(&self.id);
    }

    /// `None` for bytes that no row has.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let hash = rest.array()?;
        let message = rest.array()?;
        let generation = u32::from_le_bytes(rest.array()?);
        let [is_uncertain] = rest.array()?;
        let [count] = rest.array()?;
        let count = match count {
            u8::MAX => u16::from_le_bytes(rest.array()?),
            count => count.into(),
        };
        let granted = rest.granted()?;
        let marked: Vec<u32> =
            (0..count).map(|_| Some(u32::from_le_bytes(rest.array()?))).collect::<Option<_>>()?;
        let held = marked.iter().map(|id| id & !FRESH).collect();
        let fresh = marked.iter().filter(|id| *id & FRESH != 0).map(|id| id & !FRESH).collect();
        let sent = if is_uncertain == 1 { Some(rest.array()?) } else { None };
        let id = rest.0.to_vec();
        Some(Self { hash, message, generation, granted, held, fresh, sent, id })
    }
}

/// Takes numbers off the front.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Bytes with their length (4 bytes) in front.
    pub(super) fn bytes(&mut self) -> Option<&'b [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(len as usize)
    }

    pub(super) fn granted(&mut self) -> Option<[u64; 4]> {
        let mut granted = [0; 4];
        for word in &mut granted {
            *word = u64::from_le_bytes(self.array()?);
        }
        Some(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_it_was() {
        for held in [0, 1, 3, 254, 255, 256, 4096] {
            let known = Known {
                hash: [1; 16],
                message: [2; 16],
                generation: 7,
                granted: [1, 0, 9, 1 << 63],
                held: (0..held).collect(),
                fresh: (0..held).filter(|id| id % 3 == 1).collect(),
                sent: (held % 2 == 1).then_some([3; 16]),
                id: b"\"a b\"".to_vec(),
            };
            let mut bytes = Vec::new();
            known.encode(&mut bytes);
            assert_eq!(Known::decode(&bytes), Some(known));
            let whole = bytes.len() - 5;
            assert!((0..whole).all(|len| Known::decode(&bytes[..len]).is_none()), "{held}");
        }
    }
}
