//! A row that is to be sent, or noted, as it is put aside until the query has ended. Pure.

use super::known::{Digest, Key, Reader};

/// What is to be done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A row that is new, or has consent again that it had not: it is sent.
    Add,
    /// A row of which a column differs: it is sent.
    Update,
    /// The row is as it was; destinations that rejected it get it again.
    Retry,
    /// It is not sent, but who must not have it any more is to be found out.
    Judge,
    /// It is only noted.
    Note,
    /// It is left out; in the place of the event stands why.
    Leave,
    /// It is left out, and who must not have it any more is to be found out.
    Withdraw,
    /// It is not there any more.
    Gone,
}

impl What {
    const ALL: [Self; 8] = [
        Self::Add,
        Self::Update,
        Self::Retry,
        Self::Judge,
        Self::Note,
        Self::Leave,
        Self::Withdraw,
        Self::Gone,
    ];
}

/// How a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Added,
    Updated,
    Unchanged,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Added, Self::Updated, Self::Unchanged];
}

/// A row that is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change<'b> {
    pub(super) what: What,
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) hash: Digest,
    /// Second half of its `messageId`.
    pub(super) message: Digest,
    pub(super) granted: [u64; 4],
    /// JSON.
    pub(super) id: &'b [u8],
    /// The event; empty if it is only noted.
    pub(super) line: &'b [u8],
}

impl<'b> Change<'b> {
    /// Appends its bytes, the line without a line end behind it.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        into.push(self.what as u8);
        into.push(self.kind as u8);
        into.extend_from_slice(&self.key);
        into.extend_from_slice(&self.hash);
        into.extend_from_slice(&self.message);
        self.granted.iter().for_each(|word| into.extend_from_slice(&word.to_le_bytes()));
        for bytes in [self.id, self.line] {
            into.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            into.extend_from_slice(bytes);
        }
    }

    /// Takes the first of `bytes`; `None` at their end.
    pub(super) fn read(bytes: &mut &'b [u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let [what, kind] = rest.array()?;
        let change = Self {
            what: *What::ALL.get(usize::from(what))?,
            kind: *Kind::ALL.get(usize::from(kind))?,
            key: rest.array()?,
            hash: rest.array()?,
            message: rest.array()?,
            granted: rest.granted()?,
            id: rest.bytes()?,
            line: rest.bytes()?,
        };
        *bytes = rest.0;
        Some(change)
    }
}

/// The `messageId` of a row: its key, and what tells its versions apart.
pub(super) struct MessageId([u8; 65]);

impl MessageId {
    pub(super) fn new(key: &Key, message: &Digest) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 65];
        let (front, back) = text.split_at_mut(32);
        for (digest, text) in [(key, front), (message, &mut back[1..])] {
            for (byte, digits) in digest.iter().zip(text.as_chunks_mut::<2>().0) {
                *digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            }
        }
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        // Digits are text.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The two halves of a `messageId` of ours.
pub(super) fn read_message_id(text: &str) -> Option<(Key, Digest)> {
    let (key, message) = text.split_once('-')?;
    Some((read_hex(key)?, read_hex(message)?))
}

fn read_hex(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_as_they_were() {
        let change = Change {
            what: What::Retry,
            kind: Kind::Updated,
            key: [1; 16],
            hash: [2; 16],
            message: [3; 16],
            granted: [4, 3, 2, 1],
            id: b"7",
            line: b"{\"userId\":7}",
        };
        let other = Change { what: What::Note, kind: Kind::Added, line: b"", ..change };
        let mut bytes = Vec::new();
        change.write(&mut bytes);
        other.write(&mut bytes);
        let mut rest = bytes.as_slice();
        assert_eq!(Change::read(&mut rest), Some(change));
        assert_eq!(Change::read(&mut rest), Some(other));
        assert_eq!(Change::read(&mut rest), None);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_message_id_leads_back_to_its_row() {
        let (key, message) = ([0xA5; 16], [0x0F; 16]);
        let id = MessageId::new(&key, &message);
        let text = id.as_str();
        assert_eq!(text.len(), 65);
        assert_eq!(read_message_id(text), Some((key, message)));
        for wrong in
            ["", "-", &text[1..], &text[..64], &text.replace('-', ":"), &text.replace('a', "+")]
        {
            assert_eq!(read_message_id(wrong), None, "{wrong}");
        }
    }
}
