//! Answers, remembered and counted.
//!
//! Very few different answers occur, so each is worked out once and counted as often as it is given.
//! The counters of destinations are made from these counts once in a while (see
//! [`Memo::drain`]): an event costs one increment, however many destinations it does not reach.

use super::preferences::ConsentState;
use crate::route::{CategoryMask, RoutingTable, SourceId};

/// Everything that an answer depends on, integrations aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Question {
    granted: CategoryMask,
    /// Source, type slot, state, and whether it is a preference update or a deletion.
    rest: u64,
}

const NOT_PROVIDED: u64 = 1;
const UPDATE: u64 = 2;
const DELETION: u64 = 4;

impl Question {
    #[inline]
    pub(crate) fn new(state: ConsentState, update: bool, kind: u16, source: SourceId) -> Self {
        let (granted, state) = match state {
            ConsentState::Given(mask) => (mask, 0),
            // Malformed refuses every category, as an empty consent object does.
            ConsentState::Malformed => (CategoryMask::default(), 0),
            ConsentState::NotProvided => (CategoryMask::default(), NOT_PROVIDED),
        };
        let update = if update { UPDATE } else { 0 };
        Self { granted, rest: state | update | u64::from(kind) << 16 | u64::from(source.0) << 32 }
    }

    /// Of a deletion: whatever its user agrees to, the answer is the same.
    pub(crate) fn deletion(kind: u16, source: SourceId) -> Self {
        let rest = DELETION | u64::from(kind) << 16 | u64::from(source.0) << 32;
        Self { granted: CategoryMask::default(), rest }
    }

    #[inline]
    fn slot(&self, slots: usize) -> usize {
        let [a, b, c, d] = self.granted.0;
        let rest = b ^ c.rotate_left(21) ^ d.rotate_left(42);
        let mixed = (a ^ self.rest.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ rest.wrapping_mul(0xa076_1d64_78bd_642f);
        (mixed >> 40) as usize & (slots - 1)
    }
}

/// One answer, as sets of classes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// Classes that receive the event.
    pub(crate) deliver: &'a [u64],
    /// Classes that have consent and do not take its type.
    pub(crate) filtered: &'a [u64],
}

/// An answer and how often it was given since the last drain.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// How many events got it.
    pub events: u64,
    /// The source of these events.
    pub source: SourceId,
    /// Classes (bits) that received them.
    pub deliver: &'a [u64],
    /// Classes (bits) that have consent and do not take their type.
    pub filtered: &'a [u64],
}

/// The memory of one worker for one table. Its size is fixed when it is made.
#[derive(Debug)]
pub struct Memo {
    questions: Box<[Question]>,
    /// Events per answer since the last drain; zero for a slot that need not be drained.
    counts: Box<[u64]>,
    known: Box<[bool]>,
    /// Per slot `width` words of `deliver` and as many of `filtered`.
    answers: Box<[u64]>,
    width: usize,
    /// Slots that were counted since the last drain, each once.
    counted: Vec<u32>,
    listed: Box<[bool]>,
    /// Scratch for any-mode classes.
    won: Box<[u64]>,
}

/// Bound on the memory of the answers of one memo.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

impl Memo {
    /// A memo for `table`.
    #[must_use]
    pub fn new(table: &RoutingTable) -> Self {
        let width = table.classes().len().div_ceil(64);
        let slots = (ANSWER_BYTES_MAX / (16 * width.max(1))).clamp(64, 1024);
        // The largest power of two not above it.
        let slots = 1 << slots.ilog2();
        Self {
            questions: vec![Question::default(); slots].into(),
            counts: vec![0; slots].into(),
            known: vec![false; slots].into(),
            answers: vec![0; slots * width * 2].into(),
            width,
            counted: Vec::with_capacity(slots),
            listed: vec![false; slots].into(),
            won: vec![0; width].into(),
        }
    }

    /// Finds or works out the answer to `question` and counts it once. Where the slot holds another
    /// answer with a count, that count is given to `evicted` first.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        question: Question,
        table: &RoutingTable,
        evicted: &mut impl FnMut(Counted<'_>),
    ) -> Answer<'_> {
        let slot = question.slot(self.questions.len());
        if !self.known[slot] || self.questions[slot] != question {
            self.work_out(slot, question, table, evicted);
        }
        if !self.listed[slot] {
            self.listed[slot] = true;
            self.counted.push(slot as u32);
        }
        self.counts[slot] += 1;
        let (deliver, filtered) = self.sets(slot);
        Answer { deliver, filtered }
    }

    /// Gives every answer that was given since the last drain, with its count.
    pub fn drain(&mut self, mut each: impl FnMut(Counted<'_>)) {
        let mut counted = std::mem::take(&mut self.counted);
        for slot in counted.drain(..) {
            self.listed[slot as usize] = false;
            self.give_up(slot as usize, &mut each);
        }
        self.counted = counted;
    }

    #[cold]
    fn work_out(
        &mut self,
        slot: usize,
        question: Question,
        table: &RoutingTable,
        evicted: &mut impl FnMut(Counted<'_>),
    ) {
        if self.counts[slot] > 0 {
            self.give_up(slot, evicted);
        }
        self.questions[slot] = question;
        self.known[slot] = true;
        let at = slot * self.width * 2;
        let (deliver, filtered) = self.answers[at..at + self.width * 2].split_at_mut(self.width);
        decide(question, table, deliver, filtered, &mut self.won);
    }

    fn give_up(&mut self, slot: usize, each: &mut impl FnMut(Counted<'_>)) {
        let events = std::mem::take(&mut self.counts[slot]);
        let source = SourceId((self.questions[slot].rest >> 32) as u16);
        let (deliver, filtered) = self.sets(slot);
        each(Counted { events, source, deliver, filtered });
    }

    #[inline]
    fn sets(&self, slot: usize) -> (&[u64], &[u64]) {
        let at = slot * self.width * 2;
        self.answers[at..at + self.width * 2].split_at(self.width)
    }
}

/// The classes that consent refuses.
fn lose_refused(
    question: Question,
    source: SourceId,
    table: &RoutingTable,
    lost: &mut [u64],
    won: &mut [u64],
) {
    table.lose_unmapped(lost);
    if question.rest & NOT_PROVIDED == 0 {
        table.lose_refused(&question.granted, lost, won);
    } else if table.refuses_missing(source) {
        table.lose_mapped(lost);
    }
    if question.rest & UPDATE != 0 {
        table.keep_preference_receivers(lost);
    }
}

/// The order of the tests, for all classes at once: `disabled` and `source`, then `consent`, then
/// `filtered`. `integrations` stands between the last two and belongs to single destinations: the
/// judge takes them out of both sets.
fn decide(
    question: Question,
    table: &RoutingTable,
    deliver: &mut [u64],
    filtered: &mut [u64],
    won: &mut [u64],
) {
    let source = SourceId((question.rest >> 32) as u16);
    let kind = (question.rest >> 16) as u16;
    // `filtered` serves as the set of classes that consent refuses until it is needed.
    let lost = filtered;
    lost.fill(0);
    if question.rest & DELETION == 0 {
        lose_refused(question, source, table, lost, won);
    }
    let filtered = lost;
    let refuses = table.type_refusals(kind).words();
    let open = table.open(source).map_or(&[][..], |set| set.words());
    for (word, (deliver, filtered)) in deliver.iter_mut().zip(filtered).enumerate() {
        let allowed = open.get(word).copied().unwrap_or(0) & !*filtered;
        *deliver = allowed & !refuses[word];
        *filtered = allowed & refuses[word];
    }
}
