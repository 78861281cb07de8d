//! Rows that were rejected, and how often they were tried again. Pure.
//!
//! A row's bytes: per destination its stable ID (4 bytes; all ones for every destination), how often it
//! was tried again (4), whether it is to be tried again (1), and when it failed first, in seconds since
//! 1970 (8); all little-endian.

use std::collections::HashSet;

use super::known::Reader;

/// Stands for every destination: the daemon itself rejected the event.
pub(super) const EVERYWHERE: u32 = u32::MAX;

/// A row that a destination rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) destination: u32,
    pub(super) tries: u32,
    pub(super) is_due: bool,
    pub(super) since: u64,
}

/// How long failed rows are tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) tries: u32,
    pub(super) seconds: u64,
}

impl Patience {
    /// Whether the row is to be sent again now.
    pub(super) fn is_left(&self, failed: &Failed, now: u64) -> bool {
        failed.is_due && failed.tries < self.tries && !self.is_over(failed, now)
    }

    /// Whether the row can be sent again now, too: to one of `on`.
    pub(super) fn is_due(&self, failed: &Failed, now: u64, on: &HashSet<u32>) -> bool {
        let is_on = failed.destination == EVERYWHERE || on.contains(&failed.destination);
        is_on && self.is_left(failed, now)
    }

    /// Whether it may be forgotten.
    pub(super) fn is_over(&self, failed: &Failed, now: u64) -> bool {
        now.saturating_sub(failed.since) > self.seconds
    }
}

/// Adds a rejection to those of a row.
pub(super) fn add(list: &mut Vec<Failed>, destination: u32, now: u64) {
    match list.iter_mut().find(|failed| failed.destination == destination) {
        Some(failed) => failed.is_due = true,
        None => list.push(Failed { destination, tries: 0, is_due: true, since: now }),
    }
}

pub(super) fn encode(list: &[Failed]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17 * list.len());
    for failed in list {
        bytes.extend_from_slice(&failed.destination.to_le_bytes());
        bytes.extend_from_slice(&failed.tries.to_le_bytes());
        bytes.push(failed.is_due.into());
        bytes.extend_from_slice(&failed.since.to_le_bytes());
    }
    bytes
}

/// What is not whole is left out.
pub(super) fn decode(bytes: &[u8]) -> Vec<Failed> {
    let mut rest = Reader(bytes);
    let mut next = || {
        let destination = u32::from_le_bytes(rest.array()?);
        let tries = u32::from_le_bytes(rest.array()?);
        let [is_due] = rest.array()?;
        let since = u64::from_le_bytes(rest.array()?);
        Some(Failed { destination, tries, is_due: is_due != 0, since })
    };
    std::iter::from_fn(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_of_a_row_come_back_as_they_were() {
        let mut list = Vec::new();
        add(&mut list, 3, 100);
        add(&mut list, EVERYWHERE, 101);
        list[0].is_due = false;
        list[0].tries = 2;
        assert_eq!(decode(&encode(&list)), list);
        assert_eq!(decode(&encode(&list)[..20]), list[..1]);
        add(&mut list, 3, 200);
        assert_eq!(list[0], Failed { destination: 3, tries: 2, is_due: true, since: 100 });
    }

    #[test]
    fn patience_ends_by_tries_and_by_time() {
        let patience = Patience { tries: 5, seconds: 1000 };
        let failed = Failed { destination: 3, tries: 4, is_due: true, since: 100 };
        assert!(patience.is_left(&failed, 1100));
        assert!(!patience.is_left(&failed, 1101));
        assert!(!patience.is_left(&Failed { tries: 5, ..failed }, 200));
        assert!(!patience.is_left(&Failed { is_due: false, ..failed }, 200));
        assert!(!patience.is_over(&failed, 50), "the clock went back");
        assert!(patience.is_due(&failed, 1100, &HashSet::from([3])));
        assert!(!patience.is_due(&failed, 1100, &HashSet::from([4])), "it is off");
        let everywhere = Failed { destination: EVERYWHERE, ..failed };
        assert!(patience.is_due(&everywhere, 1100, &HashSet::new()));
    }
}
