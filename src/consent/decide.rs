//! A decision and what it proves.

use crate::parse::Event;
use crate::route::{BitSet, ClassId, DestinationId, RoutingTable, SourceId, bit_is_set, ones};

use super::memo::Answer;
use super::preferences::ConsentState;

/// Why a destination does not receive an event: the first test that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// The destination is switched off.
    Disabled,
    /// It does not take events from this source.
    Source,
    /// The user did not agree.
    Consent,
    /// The event's `integrations` switches it off.
    Integrations,
    /// It does not take this event type.
    Filtered,
    /// The source sent it to others only.
    NotAddressed,
}

/// What a line is to the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nature {
    /// Something about a person, which goes where that person agreed to.
    Event,
    /// The word that a row is gone: it carries the row's ID and nothing else, and whoever has the row
    /// must hear of it whatever the person agrees to now. Consent is not asked; every other test applies.
    /// Only the warehouse source can send one.
    Deletion,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Disabled,
        Self::Source,
        Self::Consent,
        Self::Integrations,
        Self::Filtered,
        Self::NotAddressed,
    ];

    /// The name in metrics and `explain`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Source => "source",
            Self::Consent => "consent",
            Self::Integrations => "integrations",
            Self::Filtered => "filtered",
            Self::NotAddressed => "not_addressed",
        }
    }
}

/// What a decision says about one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It receives the event.
    Deliver,
    /// It does not, and why.
    Drop(Refusal),
}

/// The proof that an event may go to some destinations: its very bytes and who may have them.
///
/// Only a [`Decision`] makes one, and there is no other way to hand bytes to a destination.
#[derive(Clone, Copy, Debug)]
pub struct Permit<'e> {
    line: &'e [u8],
    nature: Nature,
    recipients: Recipients<'e>,
}

/// Who a [`Permit`] is for.
#[derive(Clone, Copy, Debug)]
pub enum Recipients<'e> {
    /// Every member of a class but those in `except`.
    Class {
        /// The class.
        class: ClassId,
        /// Destinations (bits) that the event's integrations switch off, or that it is not addressed to.
        except: Option<&'e BitSet>,
    },
    /// One destination.
    One(DestinationId),
}

impl<'e> Permit<'e> {
    /// The bytes that were judged, without a line end.
    #[must_use]
    pub fn line(&self) -> &'e [u8] {
        self.line
    }

    /// What they are to the rules.
    #[must_use]
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// Who may have them.
    #[must_use]
    pub fn recipients(&self) -> Recipients<'e> {
        self.recipients
    }
}

/// The decision on one event under one table.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'e> {
    pub(crate) event: Event<'e>,
    pub(crate) table: &'e RoutingTable,
    pub(crate) source: SourceId,
    pub(crate) nature: Nature,
    pub(crate) state: ConsentState,
    pub(crate) unknown: u32,
    pub(crate) answer: Answer<'e>,
    /// Destinations that the event's integrations switch off, where there are any.
    pub(crate) off: Option<&'e BitSet>,
    /// These, and those that it is not addressed to, where there are any.
    pub(crate) except: Option<&'e BitSet>,
}

impl<'e> Decision<'e> {
    /// What was found of a consent object.
    #[must_use]
    pub fn consent(&self) -> ConsentState {
        self.state
    }

    /// Whether the category with this number is granted.
    #[must_use]
    pub fn granted(&self, category: u16) -> bool {
        match self.state {
            ConsentState::Given(mask) => mask.contains(category),
            ConsentState::NotProvided | ConsentState::Malformed => false,
        }
    }

    /// How many preferences are about categories that the table does not know.
    #[must_use]
    pub fn unknown_categories(&self) -> u32 {
        self.unknown
    }

    /// One permit per class that receives the event.
    #[inline]
    pub fn permits(&self) -> impl Iterator<Item = Permit<'e>> + 'e {
        let (line, nature) = (self.event.line(), self.nature);
        let (except, table) = (self.except, self.table);
        ones(self.answer.deliver).filter_map(move |class| {
            let except = match except {
                None => None,
                Some(except) => {
                    let members = &table.classes()[class].members;
                    let out = members.iter().filter(|m| except.contains(m.0.into())).count();
                    if out == members.len() {
                        return None;
                    }
                    (out > 0).then_some(except)
                }
            };
            let recipients = Recipients::Class { class: ClassId(class as u16), except };
            Some(Permit { line, nature, recipients })
        })
    }

    /// Whether integrations switch anything off.
    #[inline]
    pub(crate) fn switches_off(&self) -> bool {
        self.off.is_some()
    }

    /// Destinations that integrations switch off although consent would allow them, and whether
    /// they take the event's type.
    pub(crate) fn switched_off(&self) -> impl Iterator<Item = (DestinationId, bool)> + 'e {
        let (table, answer) = (self.table, self.answer);
        self.off.into_iter().flat_map(move |off| {
            let of = move |sets: &'e [u64], delivered: bool| {
                ones(sets)
                    .flat_map(move |class| &table.classes()[class].members)
                    .filter(move |member| off.contains(member.0.into()))
                    .map(move |&member| (member, delivered))
            };
            of(answer.deliver, true).chain(of(answer.filtered, false))
        })
    }

    /// Destinations that would receive it if it were addressed to them.
    pub(crate) fn not_addressed(&self) -> impl Iterator<Item = DestinationId> + 'e {
        let (table, off, answer) = (self.table, self.off, self.answer);
        self.except.into_iter().flat_map(move |except| {
            ones(answer.deliver)
                .flat_map(move |class| &table.classes()[class].members)
                .filter(move |member| except.contains(member.0.into()))
                .filter(move |member| !off.is_some_and(|off| off.contains(member.0.into())))
                .copied()
        })
    }

    /// Appends what tells the answer from others for events of the same source that are addressed to the
    /// same destinations: equal words mean equal outcomes.
    pub(crate) fn distinguish(&self, into: &mut Vec<u64>) {
        into.extend_from_slice(self.answer.deliver);
        into.extend_from_slice(self.answer.filtered);
        self.off.into_iter().for_each(|off| into.extend_from_slice(off.words()));
    }

    /// What is decided for one destination of the table.
    #[must_use]
    pub fn outcome(&self, destination: DestinationId) -> Outcome {
        let known = &self.table.destinations()[usize::from(destination.0)];
        let class = usize::from(known.class.0);
        if !known.enabled {
            return Outcome::Drop(Refusal::Disabled);
        }
        if !self.table.open(self.source).is_some_and(|open| open.contains(class)) {
            return Outcome::Drop(Refusal::Source);
        }
        let deliver = bit_is_set(self.answer.deliver, class);
        if !deliver && !bit_is_set(self.answer.filtered, class) {
            return Outcome::Drop(Refusal::Consent);
        }
        if self.off.is_some_and(|off| off.contains(destination.0.into())) {
            return Outcome::Drop(Refusal::Integrations);
        }
        if !deliver {
            return Outcome::Drop(Refusal::Filtered);
        }
        if self.except.is_some_and(|except| except.contains(destination.0.into())) {
            return Outcome::Drop(Refusal::NotAddressed);
        }
        Outcome::Deliver
    }

    /// The permit for one destination of the table.
    ///
    /// # Errors
    /// [`Refusal`] where the decision does not allow it.
    pub fn permit_for(&self, destination: DestinationId) -> Result<Permit<'e>, Refusal> {
        match self.outcome(destination) {
            Outcome::Deliver => {
                let recipients = Recipients::One(destination);
                Ok(Permit { line: self.event.line(), nature: self.nature, recipients })
            }
            Outcome::Drop(refusal) => Err(refusal),
        }
    }
}
