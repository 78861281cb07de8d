//! From an event to what its user agreed to.

use crate::parse::{Context, Event, Node, RejectReason, Rejection, Value};
use crate::route::{CategoryMask, RoutingTable};

/// The event that tells a user's new preferences.
const PREFERENCE_UPDATE: &[u8] = b"Segment Consent Preference Updated";

/// What was found of a consent object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentState {
    /// There is none; `consent.missing` decides.
    NotProvided,
    /// There is one; these categories are granted, all others refused.
    Given(CategoryMask),
    /// Something is there that is not a consent object: every category is refused.
    Malformed,
}

/// The consent of one event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) state: ConsentState,
    /// How many preferences are about categories that the table does not know.
    pub(crate) unknown: u32,
    /// Whether the event is a preference update.
    pub(crate) update: bool,
}

/// Reads the consent of `event`.
///
/// # Errors
/// A preference update without usable preferences is rejected.
#[inline]
pub(crate) fn read(event: &Event<'_>, table: &RoutingTable) -> Result<Reading, Rejection> {
    let update = event.name() == Some(PREFERENCE_UPDATE) && event.kind() == Some(b"track");
    if update {
        check_update(event)?;
    }
    let (state, unknown) = match event.context() {
        Context::Absent => (ConsentState::NotProvided, 0),
        Context::NotObject => (ConsentState::Malformed, 0),
        Context::Object => in_context(event, table),
    };
    Ok(Reading { state, unknown, update })
}

/// Tries the locations in order; the first that exists is used.
#[inline]
fn in_context(event: &Event<'_>, table: &RoutingTable) -> (ConsentState, u32) {
    let mut passed_an_object = false;
    for (on_the_way, node) in event.located() {
        match on_the_way {
            Some(Node::NotObject) => return (ConsentState::Malformed, 0),
            Some(Node::Object { .. }) => passed_an_object = true,
            Some(Node::Absent) | None => {}
        }
        match node {
            Node::Absent => {}
            Node::NotObject => return (ConsentState::Malformed, 0),
            Node::Object { .. } => return granted(event, node, table),
        }
    }
    // A consent object without preferences says nothing, unless integrations beside it show that
    // somebody meant to say something.
    let integrations = matches!(event.integrations(), Node::Object { count: 1.., .. });
    if passed_an_object && integrations {
        (ConsentState::Malformed, 0)
    } else {
        (ConsentState::NotProvided, 0)
    }
}

#[inline]
fn granted(event: &Event<'_>, preferences: Node, table: &RoutingTable) -> (ConsentState, u32) {
    let mut mask = CategoryMask::default();
    let mut unknown = 0;
    for (id, value) in event.members(preferences) {
        match table.category(&id) {
            Some(category) => mask.insert_if(value.is_true(), category),
            None => unknown += 1,
        }
    }
    (ConsentState::Given(mask), unknown)
}

fn check_update(event: &Event<'_>) -> Result<(), Rejection> {
    let used = event.located().map(|(_, node)| node).find(|node| *node != Node::Absent);
    let reject = |reason, detail| Err(Rejection { reason, detail, at: None });
    match used {
        None | Some(Node::Absent) => reject(
            RejectReason::PreferencesMissing,
            "a preference update without a preferences object",
        ),
        Some(Node::Object { .. }) if all_booleans(event, used) => Ok(()),
        Some(Node::Object { .. } | Node::NotObject) => reject(
            RejectReason::PreferencesInvalid,
            "a preference update whose preferences are not an object of booleans",
        ),
    }
}

fn all_booleans(event: &Event<'_>, node: Option<Node>) -> bool {
    node.is_some_and(|node| {
        event.members(node).all(|(_, value)| match value {
            Value::True | Value::False => true,
            Value::Object | Value::Other => false,
        })
    })
}
