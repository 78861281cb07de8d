//! Where in an event the consent object is looked for.

use std::fmt;

use crate::route::Name;

/// Locations a table can have.
pub const MAX_LOCATIONS: usize = 4;

/// The compiled list of locations, in the order in which they are tried.
///
/// A location is `/context/<a>` or `/context/<a>/<b>`. The distinct `<a>` are the *roots*; a root
/// with a `<b>` below it is an object on the way to a location.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Locations {
    roots: Vec<Root>,
    list: Vec<Location>,
    /// One bit per byte with which the name of a root may begin as it is written in an event.
    beginnings: [u64; 4],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Root {
    name: Name,
    /// The location that ends here; a root is either a location or on the way to some.
    location: Option<u8>,
    below: Vec<(Name, u8)>,
}

/// One location: its root, and whether the preferences are the root itself or a level below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) root: u8,
    pub(crate) nested: bool,
}

/// What a key of `context` or of a root leads to.
pub(crate) enum Step {
    /// A preferences object: this location.
    Location(u8),
    /// An object on the way.
    Root,
}

/// Why a list of locations can't be used; the place in the list comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationError {
    /// More than [`MAX_LOCATIONS`], or none.
    Count(usize),
    /// Not `/context/<a>` or `/context/<a>/<b>`.
    Form(usize),
    /// The same as, above or below an earlier one.
    Overlap(usize),
}

impl fmt::Display for LocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "{n} consent locations; 1 to {MAX_LOCATIONS} are possible"),
            Self::Form(_) => {
                f.write_str("a consent location is /context/<key> or /context/<key>/<key>")
            }
            Self::Overlap(_) => f.write_str("a consent location lies on an earlier one"),
        }
    }
}

impl std::error::Error for LocationError {}

impl Locations {
    /// Compiles JSON pointers (RFC 6901).
    ///
    /// # Errors
    /// [`LocationError`] where the list or one of its members has another form.
    pub fn new<S: AsRef<str>>(pointers: &[S]) -> Result<Self, LocationError> {
        if pointers.is_empty() || pointers.len() > MAX_LOCATIONS {
            return Err(LocationError::Count(pointers.len()));
        }
        let mut locations = Self::default();
        for (at, pointer) in pointers.iter().enumerate() {
            let path = pointer.as_ref().strip_prefix("/context/").ok_or(LocationError::Form(at))?;
            let mut segments = path.split('/');
            match (segments.next(), segments.next(), segments.next()) {
                (Some(root), None, _) if !root.is_empty() => locations.add(at, root, None)?,
                (Some(root), Some(leaf), None) if !root.is_empty() && !leaf.is_empty() => {
                    locations.add(at, root, Some(leaf))?;
                }
                _ => return Err(LocationError::Form(at)),
            }
        }
        Ok(locations)
    }

    fn add(&mut self, at: usize, root: &str, leaf: Option<&str>) -> Result<(), LocationError> {
        let (root, leaf) = (unescape(root), leaf.map(unescape));
        let number = self.list.len() as u8;
        let known = self.roots.iter().position(|r| r.name == root);
        let position = known.unwrap_or(self.roots.len());
        if known.is_none() {
            // Any name may be written with an escape.
            // An empty one begins with its closing quote.
            let first = root.bytes().first().copied().unwrap_or(b'"');
            for byte in [first, b'\\'] {
                self.beginnings[usize::from(byte / 64)] |= 1 << (byte % 64);
            }
            self.roots.push(Root { name: root, location: None, below: Vec::new() });
        }
        let entry = &mut self.roots[position];
        let nested = leaf.is_some();
        match leaf {
            None if known.is_some() => return Err(LocationError::Overlap(at)),
            None => entry.location = Some(number),
            Some(leaf) => {
                if entry.location.is_some() || entry.below.iter().any(|(name, _)| *name == leaf) {
                    return Err(LocationError::Overlap(at));
                }
                entry.below.push((leaf, number));
            }
        }
        self.list.push(Location { root: position as u8, nested });
        Ok(())
    }

    pub(crate) fn list(&self) -> &[Location] {
        &self.list
    }

    /// Whether a key of `context` may be the name of a root, by the first byte behind its opening
    /// quote: most keys are not, and need not be read.
    #[inline]
    pub(crate) fn may_begin(&self, byte: u8) -> bool {
        self.beginnings[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    /// What a key of `context` leads to, and the number of its root; `is` tells whether the key has a
    /// name.
    #[inline]
    pub(crate) fn root(&self, is: impl Fn(&Name) -> bool) -> Option<(u8, Step)> {
        let position = self.roots.iter().position(|root| is(&root.name))?;
        let step = match self.roots[position].location {
            Some(location) => Step::Location(location),
            None => Step::Root,
        };
        Some((position as u8, step))
    }

    /// The location at a key of the object at `root`; `is` tells whether the key has a name.
    #[inline]
    pub(crate) fn below(&self, root: u8, is: impl Fn(&Name) -> bool) -> Option<u8> {
        let (_, location) =
            self.roots[usize::from(root)].below.iter().find(|(name, _)| is(name))?;
        Some(*location)
    }
}

fn unescape(segment: &str) -> Name {
    Name::new(segment.replace("~1", "/").replace("~0", "~").into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |pointers: &[&str], expected: Result<(), LocationError>| {
            assert_eq!(Locations::new(pointers).map(|_| ()), expected, "{pointers:?}");
        };
        check(&["/context/consent/categoryPreferences", "/context/consentCategories"], Ok(()));
        check(&["/context/c/a", "/context/c/b"], Ok(()));
        check(&[], Err(LocationError::Count(0)));
        check(&["/context/a", "/consent"], Err(LocationError::Form(1)));
        check(&["/context/"], Err(LocationError::Form(0)));
        check(&["/context/a/b/c"], Err(LocationError::Form(0)));
        check(&["/context/a", "/context/a"], Err(LocationError::Overlap(1)));
        check(&["/context/a", "/context/a/b"], Err(LocationError::Overlap(1)));
        check(&["/context/a/b", "/context/a"], Err(LocationError::Overlap(1)));
    }

    #[test]
    fn segments_are_unescaped() {
        let locations = Locations::new(&["/context/a~1b~0c"]).unwrap();
        let expected = Name::new((*b"a/b~c").into());
        assert!(locations.root(|name| *name == expected).is_some());
    }
}
