//! Seeded, varied, realistic events, one JSON object a line.
//!
//! Owns: what the lines look like. Does not own: what should become of them (`expect`).
//!
//! Always: the same seed and profile give the same lines, on every machine. Every line, a
//! malformed one too, carries exactly one [`EventId`] and no newline. A malformed line has exactly
//! one thing wrong with it.

mod consent;
mod defect;
mod event;
mod id;
mod json;
mod words;

use fastrand::Rng;

pub use self::id::{EventId, ID_LEN, TEMPLATES_MAX};
pub use self::words::{CATEGORIES, INTEGRATIONS, PREFERENCE_UPDATED};

/// What share of the lines has which property, in thousandths.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Lines that must be rejected.
    pub malformed_per_mille: u32,
    /// Lines that hold a backslash.
    pub escapes_per_mille: u32,
    /// Events whose context has no consent object.
    pub without_consent_per_mille: u32,
    /// Events with a consent object where nobody may look for one.
    pub decoys_per_mille: u32,
    /// Events with an `integrations` object.
    pub integrations_per_mille: u32,
    /// Well-formed events that tell of changed preferences.
    pub preference_events_per_mille: u32,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            malformed_per_mille: 4,
            escapes_per_mille: 180,
            without_consent_per_mille: 30,
            decoys_per_mille: 60,
            integrations_per_mille: 150,
            preference_events_per_mille: 5,
        }
    }
}

impl Profile {
    /// No line is malformed; all else as by default.
    pub fn well_formed() -> Self {
        Self { malformed_per_mille: 0, ..Self::default() }
    }
}

/// An endless iterator of lines.
#[derive(Debug, Clone)]
pub struct Corpus {
    rng: Rng,
    profile: Profile,
    next: u32,
}

impl Corpus {
    /// Starts at the first line of this seed.
    pub fn new(seed: u64, profile: Profile) -> Self {
        Self { rng: Rng::with_seed(seed), profile, next: 0 }
    }

    /// The next `count` lines, without their newlines.
    pub fn lines(&mut self, count: usize) -> Vec<Vec<u8>> {
        self.take(count).collect()
    }

    /// The next `count` lines in one buffer, each with a newline after it.
    pub fn contiguous(&mut self, count: usize) -> Vec<u8> {
        self.take(count).fold(Vec::new(), |mut all, line| {
            all.extend_from_slice(&line);
            all.push(b'\n');
            all
        })
    }

    fn line(&mut self) -> Vec<u8> {
        let template = self.next % TEMPLATES_MAX;
        let id = EventId { template, sequence: u64::from(self.next), sent_ns: 0 };
        self.next = self.next.wrapping_add(1);
        // A generator per line: a change to one kind of line leaves the others as they were.
        let mut rng = self.rng.fork();
        if rng.u32(..1000) < self.profile.malformed_per_mille {
            self.malformed(id, &mut rng)
        } else {
            self.well_formed(id, &mut rng)
        }
    }

    fn well_formed(&self, id: EventId, rng: &mut Rng) -> Vec<u8> {
        let mut event = event::event(id.text(), &self.profile, rng);
        if rng.u32(..1000) < self.profile.preference_events_per_mille {
            consent::make_valid_preference_event(&mut event, rng);
        }
        let style = event::style(&mut event, &self.profile, rng);
        event.shuffle(rng);
        let mut line = String::with_capacity(1536);
        event.write(&mut line, style, rng);
        line.into_bytes()
    }

    fn malformed(&self, id: EventId, rng: &mut Rng) -> Vec<u8> {
        let mut event = event::event(id.text(), &self.profile, rng);
        let damage = defect::damage_tree(&mut event, rng);
        event.shuffle(rng);
        let mut line = String::with_capacity(1536);
        event.write(&mut line, json::Style::default(), rng);
        let mut line = line.into_bytes();
        if let (Some(damage), Some((at, _))) = (damage, EventId::find(&line)) {
            damage.apply(&mut line, at + ID_LEN, rng);
        }
        line
    }
}

impl Iterator for Corpus {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        Some(self.line())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_every_byte() {
        let lines = Corpus::new(7, Profile::default()).lines(2000);
        assert_eq!(lines, Corpus::new(7, Profile::default()).lines(2000));
        assert_ne!(lines, Corpus::new(8, Profile::default()).lines(2000));
    }

    #[test]
    fn lines_are_realistic() {
        let lines = Corpus::new(1, Profile::default()).lines(20_000);
        let mean = lines.iter().map(Vec::len).sum::<usize>() / lines.len();
        assert!((1100..1200).contains(&mean), "mean length {mean}");

        let share = |holds: &dyn Fn(&[u8]) -> bool| {
            lines.iter().filter(|line| holds(line)).count() * 1000 / lines.len()
        };
        let escaped = share(&|line| line.contains(&b'\\'));
        assert!((165..200).contains(&escaped), "{escaped} of 1000 with a backslash");
        let unicode = share(&|line| !line.is_ascii());
        assert!(unicode > 200, "{unicode} of 1000 with unicode");
        assert_eq!(share(&|line| line.contains(&b'\n')), 0);
    }

    #[test]
    fn every_line_carries_its_own_id_once() {
        let profile = Profile { malformed_per_mille: 300, ..Profile::default() };
        for (index, line) in Corpus::new(2, profile).take(5000).enumerate() {
            let (at, id) = EventId::find(&line).unwrap();
            let expected = EventId { template: index as u32, sequence: index as u64, sent_ns: 0 };
            assert_eq!(id, expected);
            assert_eq!(EventId::find(&line[at..]), None);
        }
    }

    #[test]
    fn a_buffer_holds_the_same_lines() {
        let lines = Corpus::new(3, Profile::default()).lines(100);
        let buffer = Corpus::new(3, Profile::default()).contiguous(100);
        let cut: Vec<_> = buffer.split(|byte| *byte == b'\n').collect();
        assert_eq!(cut[..100], lines[..]);
        assert_eq!(cut[100..], [b""]);
    }
}
