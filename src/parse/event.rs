//! The borrowed view of one event.

use super::MAX_LOCATIONS;
use super::keys::Key;
use super::location::Locations;
use crate::route::Spelled;

/// What `context` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Context {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// Anything else that is not an object.
    NotObject,
    /// An object.
    Object,
}

/// What stands at a place in the event that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Node {
    /// Nothing.
    #[default]
    Absent,
    /// Something that is not an object, `null` included.
    NotObject,
    /// An object; its members are `first..first + count` of the event's members, except for an
    /// object on the way to a location, whose members are not kept.
    Object {
        /// Position of the first member.
        first: u32,
        /// How many.
        count: u32,
    },
}

/// The value of a member, as far as consent cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The literal `true`.
    True,
    /// The literal `false`.
    False,
    /// An object.
    Object,
    /// Anything else.
    Other,
}

impl Value {
    /// Whether it grants: only the literal `true` does.
    #[inline]
    #[must_use]
    pub fn is_true(self) -> bool {
        match self {
            Self::True => true,
            Self::False | Self::Object | Self::Other => false,
        }
    }
}

/// A key and its value, in a preferences object or in `integrations`.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    pub(crate) key: Key,
    pub(crate) hash: u64,
    /// The value.
    pub value: Value,
}

/// What a pass over a line leaves behind; reused from line to line.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kind: Option<Key>,
    pub(crate) name: Option<Key>,
    pub(crate) context: Context,
    pub(crate) integrations: Node,
    pub(crate) roots: [Node; MAX_LOCATIONS],
    pub(crate) located: [Node; MAX_LOCATIONS],
    pub(crate) members: Vec<Member>,
    /// Keys that were written with escapes, unescaped.
    pub(crate) unescaped: Vec<u8>,
    pub(crate) duplicate: bool,
}

impl Found {
    pub(crate) fn clear(&mut self) {
        self.kind = None;
        self.name = None;
        self.context = Context::Absent;
        self.integrations = Node::Absent;
        self.roots = [Node::Absent; MAX_LOCATIONS];
        self.located = [Node::Absent; MAX_LOCATIONS];
        self.members.clear();
        self.unescaped.clear();
        self.duplicate = false;
    }
}

/// One valid event: its line and the few fields that decisions are made on.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub(crate) line: &'a [u8],
    pub(crate) found: &'a Found,
    pub(crate) locations: &'a Locations,
}

impl<'a> Event<'a> {
    /// The line, byte for byte, without its line end.
    #[must_use]
    pub fn line(&self) -> &'a [u8] {
        self.line
    }

    /// The string at `type`, unescaped.
    #[must_use]
    pub fn kind(&self) -> Option<&'a [u8]> {
        self.found.kind.map(|key| key.bytes.of(self.line, &self.found.unescaped))
    }

    /// As [`Event::kind`], ready to be looked up.
    pub(crate) fn kind_spelled(&self) -> Option<Spelled<'a>> {
        self.found.kind.map(|key| key.spelled(self.line, &self.found.unescaped))
    }

    /// The string at `event`, unescaped.
    #[must_use]
    pub fn name(&self) -> Option<&'a [u8]> {
        self.found.name.map(|key| key.bytes.of(self.line, &self.found.unescaped))
    }

    /// What `context` is.
    #[must_use]
    pub fn context(&self) -> Context {
        self.found.context
    }

    /// What `integrations` is.
    #[must_use]
    pub fn integrations(&self) -> Node {
        self.found.integrations
    }

    /// For each location in turn: the object on the way to it, where there is one, and what stands
    /// at the location itself.
    pub fn located(&self) -> impl Iterator<Item = (Option<Node>, Node)> + 'a {
        let found = self.found;
        self.locations.list().iter().zip(&found.located).map(|(location, node)| {
            (location.nested.then(|| found.roots[usize::from(location.root)]), *node)
        })
    }

    /// The members of a preferences object or of `integrations`: key (unescaped) and value.
    #[inline]
    pub(crate) fn members(&self, node: Node) -> impl Iterator<Item = (Spelled<'a>, Value)> + 'a {
        let (line, found) = (self.line, self.found);
        let members = match node {
            Node::Object { first, count } => {
                let first = first as usize;
                found.members.get(first..first + count as usize).unwrap_or_default()
            }
            Node::Absent | Node::NotObject => &[],
        };
        members.iter().map(move |member| {
            let Key { bytes, words } = member.key;
            let bytes = bytes.of(line, &found.unescaped);
            (Spelled { bytes, words, hash: member.hash }, member.value)
        })
    }
}
