//! The immutable routing table.
//!
//! Destinations that no event can tell apart (same rules, integrations aside) form a *class*; what
//! is computed per event is computed per class. A class is a bit in every set below.

use std::collections::{BTreeSet, HashMap};

use super::spec::{CategorySpec, DestinationSpec, Match, Missing, SpecError, TableSpec, Unmapped};
use super::{BitSet, NameIndex, Spelled};
use crate::parse::Locations;

/// Categories a table can have.
pub const MAX_CATEGORIES: usize = 256;
/// Event types that all destinations together can name: each costs a set of classes.
pub const MAX_TYPES: usize = 4096;
/// Destinations a table can have.
pub const MAX_DESTINATIONS: usize = 4096;

/// A source by its position in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u16);

/// A destination by its position in the config of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationId(pub u16);

/// A class of destinations of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(pub u16);

/// A set of categories: category *i* of a table is bit *i*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CategoryMask(pub [u64; MAX_CATEGORIES / 64]);

impl CategoryMask {
    /// Adds category `index` if `granted`, without a branch: what users choose can't be foreseen.
    #[inline]
    pub fn insert_if(&mut self, granted: bool, index: u16) {
        self.0[usize::from(index) / 64] |= u64::from(granted) << (index % 64);
    }

    /// Whether category `index` is in it.
    #[must_use]
    pub fn contains(&self, index: u16) -> bool {
        super::bits::contains(&self.0, index.into())
    }
}

/// A destination as the table knows it.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The name in the config.
    pub name: String,
    /// The class it belongs to.
    pub class: ClassId,
    /// Whether it is switched on (`disabled` and `source` are told apart by this).
    pub enabled: bool,
}

/// Destinations with the same rules.
#[derive(Clone, Debug)]
pub struct Class {
    /// In config order, never empty.
    pub members: Vec<DestinationId>,
    /// Names the consent that it takes: while it is the same, so is what each preferences object
    /// allows, in whatever table.
    pub consent: u64,
}

/// The rules of a class, and what makes two destinations the same class.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Rule {
    enabled: bool,
    sources: Option<Vec<String>>,
    enforce: bool,
    required: Vec<u16>,
    match_mode: Match,
    receives_preferences: bool,
    types: Option<Vec<String>>,
}

/// The compiled form of categories, sources and destinations.
#[derive(Debug)]
pub struct RoutingTable {
    version: u64,
    hash: String,
    words: String,
    locations: Locations,
    categories: Vec<CategorySpec>,
    category_index: NameIndex,
    destinations: Vec<Destination>,
    classes: Vec<Class>,
    sources: Vec<SourceRules>,
    /// Integration names, and the destinations that answer to each.
    integration_index: NameIndex,
    integrations: Vec<Vec<DestinationId>>,
    /// Event types that some class filters by; per type, and last for all others, the classes that
    /// do not take it.
    type_index: NameIndex,
    type_refusals: Vec<BitSet>,
    /// Classes that need every one of their categories, per category.
    needs: Vec<BitSet>,
    /// Classes that need any one of their categories, per category.
    accepts: Vec<BitSet>,
    /// Classes with `match = "any"`.
    any_mode: BitSet,
    /// Classes that enforce consent and have an enabled category.
    mapped: BitSet,
    /// Classes that consent always refuses: unmapped, and `unmapped = "deny"`.
    never: BitSet,
    /// Classes that get preference updates whatever the user chose.
    receives_preferences: BitSet,
}

#[derive(Debug)]
struct SourceRules {
    name: String,
    missing: Missing,
    /// Classes that are switched on and take events from this source.
    open: BitSet,
}

impl RoutingTable {
    /// Compiles `spec`.
    ///
    /// # Errors
    /// [`SpecError`] where the spec is over a limit or refers to something that does not exist.
    pub fn compile(spec: &TableSpec) -> Result<Self, SpecError> {
        if spec.categories.len() > MAX_CATEGORIES {
            return Err(SpecError::TooManyCategories(spec.categories.len()));
        }
        if spec.destinations.len() > MAX_DESTINATIONS {
            return Err(SpecError::TooManyDestinations(spec.destinations.len()));
        }
        let ids: Vec<&str> = spec.categories.iter().map(|c| c.id.as_str()).collect();
        let category_index = NameIndex::new(&ids);

        let mut classes: Vec<Class> = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        let mut class_of: HashMap<Rule, ClassId> = HashMap::new();
        let mut destinations = Vec::with_capacity(spec.destinations.len());
        for (number, destination) in (0..).zip(&spec.destinations) {
            let rule = rule_of(destination, spec, &category_index)?;
            let class = *class_of.entry(rule).or_insert_with_key(|rule| {
                rules.push(rule.clone());
                classes.push(Class { members: Vec::new(), consent: consent_of(rule, spec) });
                ClassId(classes.len() as u16 - 1)
            });
            classes[usize::from(class.0)].members.push(DestinationId(number));
            destinations.push(Destination {
                name: destination.name.clone(),
                class,
                enabled: destination.enabled,
            });
        }

        let limit = classes.len();
        let set_of = |test: &dyn Fn(&Rule) -> bool| {
            let mut set = BitSet::new(limit);
            for (class, rule) in rules.iter().enumerate() {
                if test(rule) {
                    set.insert(class);
                }
            }
            set
        };
        let per_category = |mode: Match| -> Vec<BitSet> {
            let mut sets = vec![BitSet::new(limit); spec.categories.len()];
            for (class, rule) in rules.iter().enumerate() {
                if rule.enforce && rule.match_mode == mode {
                    for &category in &rule.required {
                        sets[usize::from(category)].insert(class);
                    }
                }
            }
            sets
        };
        let sources = spec
            .sources
            .iter()
            .map(|source| SourceRules {
                name: source.name.clone(),
                missing: source.missing.unwrap_or(spec.missing),
                open: set_of(&|rule| {
                    rule.enabled
                        && rule.sources.as_ref().is_none_or(|only| only.contains(&source.name))
                }),
            })
            // The last entry stands for an event whose source is not known (`explain`).
            .chain(std::iter::once_with(|| SourceRules {
                name: String::new(),
                missing: spec.missing,
                open: set_of(&|rule| rule.enabled),
            }))
            .collect();
        let types: BTreeSet<&String> =
            rules.iter().filter_map(|rule| rule.types.as_ref()).flatten().collect();
        let types: Vec<&String> = types.into_iter().collect();
        if types.len() > MAX_TYPES {
            return Err(SpecError::TooManyTypes(types.len()));
        }
        let refuses = |kind: Option<&String>| {
            set_of(&|rule| {
                rule.types.as_ref().is_some_and(|only| kind.is_none_or(|kind| !only.contains(kind)))
            })
        };
        let mut type_refusals: Vec<BitSet> = types.iter().map(|kind| refuses(Some(kind))).collect();
        type_refusals.push(refuses(None));
        let mut integrations: Vec<Vec<DestinationId>> = Vec::new();
        let mut integration_names: Vec<&str> = Vec::new();
        let mut slot_of: HashMap<&str, usize> = HashMap::new();
        for (number, destination) in (0..).zip(&spec.destinations) {
            let slot = *slot_of.entry(&destination.integration).or_insert_with(|| {
                integration_names.push(&destination.integration);
                integrations.push(Vec::new());
                integrations.len() - 1
            });
            integrations[slot].push(DestinationId(number));
        }

        Ok(Self {
            version: spec.version,
            hash: hash_of(spec),
            words: spec.words(),
            locations: Locations::new(&spec.locations).map_err(SpecError::Location)?,
            category_index,
            categories: spec.categories.clone(),
            destinations,
            sources,
            integration_index: NameIndex::new(&integration_names),
            integrations,
            type_index: NameIndex::new(&types),
            type_refusals,
            needs: per_category(Match::All),
            accepts: per_category(Match::Any),
            any_mode: set_of(&|rule| {
                rule.enforce && rule.match_mode == Match::Any && !rule.required.is_empty()
            }),
            mapped: set_of(&|rule| rule.enforce && !rule.required.is_empty()),
            never: set_of(&|rule| {
                rule.enforce && rule.required.is_empty() && spec.unmapped == Unmapped::Deny
            }),
            receives_preferences: set_of(&|rule| rule.receives_preferences),
            classes,
        })
    }

    /// Counts up with every table of a running daemon.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Names the content: tables that decide alike have the same hash, whatever their version.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// [`TableSpec::words`].
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }

    /// Where the consent object is looked for.
    #[must_use]
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// In config order: the position is the bit in a [`CategoryMask`].
    #[must_use]
    pub fn categories(&self) -> &[CategorySpec] {
        &self.categories
    }

    /// The number of the category with this ID.
    #[inline]
    #[must_use]
    pub(crate) fn category(&self, id: &Spelled<'_>) -> Option<u16> {
        self.category_index.find(id)
    }

    /// In config order: the position is the [`DestinationId`].
    #[must_use]
    pub fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// The destination with this name.
    #[must_use]
    pub fn destination(&self, name: &str) -> Option<DestinationId> {
        let position = self.destinations.iter().position(|d| d.name == name)?;
        u16::try_from(position).ok().map(DestinationId)
    }

    /// Every class; the position is the [`ClassId`].
    #[must_use]
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The source with this name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<SourceId> {
        let position = self.sources.iter().position(|s| s.name == name && !name.is_empty())?;
        u16::try_from(position).ok().map(SourceId)
    }

    /// A source that passes every destination's `sources` test and has no override.
    #[must_use]
    pub fn any_source(&self) -> SourceId {
        SourceId(self.sources.len() as u16 - 1)
    }

    /// Destinations that answer to this name in an event's `integrations`.
    #[must_use]
    pub(crate) fn integration(&self, name: &Spelled<'_>) -> &[DestinationId] {
        match self.integration_index.find(name) {
            Some(slot) => &self.integrations[usize::from(slot)],
            None => &[],
        }
    }

    /// The slot of an event type: types that no filter names share the last one.
    #[must_use]
    pub(crate) fn type_slot(&self, kind: Option<&Spelled<'_>>) -> u16 {
        let others = self.type_refusals.len() as u16 - 1;
        kind.and_then(|kind| self.type_index.find(kind)).unwrap_or(others)
    }

    /// Classes that do not take events of this type slot.
    pub(crate) fn type_refusals(&self, slot: u16) -> &BitSet {
        &self.type_refusals[usize::from(slot)]
    }

    /// Whether destinations of `class` are on and take events from `source`.
    #[must_use]
    pub fn is_open(&self, source: SourceId, class: ClassId) -> bool {
        self.open(source).is_some_and(|open| open.contains(class.0.into()))
    }

    /// Classes that are on and take events from `source`; none for a source of another table.
    pub(crate) fn open(&self, source: SourceId) -> Option<&BitSet> {
        self.sources.get(usize::from(source.0)).map(|rules| &rules.open)
    }

    /// Whether an event from `source` without a consent object is refused where consent is needed.
    pub(crate) fn refuses_missing(&self, source: SourceId) -> bool {
        self.sources.get(usize::from(source.0)).is_none_or(|rules| rules.missing == Missing::Deny)
    }

    /// Adds to `lost` the classes that refuse every event consent could refuse.
    pub(crate) fn lose_mapped(&self, lost: &mut [u64]) {
        union(lost, &self.mapped);
    }

    /// Adds to `lost` the classes that never receive: unmapped ones under `unmapped = "deny"`.
    pub(crate) fn lose_unmapped(&self, lost: &mut [u64]) {
        union(lost, &self.never);
    }

    /// Adds to `lost` the classes that `granted` does not satisfy.
    ///
    /// The union over the refused categories of the classes that need them all, and the any-mode
    /// classes that no granted category satisfies.
    pub(crate) fn lose_refused(&self, granted: &CategoryMask, lost: &mut [u64], won: &mut [u64]) {
        won.fill(0);
        for (index, (needs, accepts)) in (0..).zip(self.needs.iter().zip(&self.accepts)) {
            if granted.contains(index) {
                union(won, accepts);
            } else {
                union(lost, needs);
            }
        }
        for ((lost, won), any) in lost.iter_mut().zip(won).zip(self.any_mode.words()) {
            *lost |= any & !*won;
        }
    }

    /// Takes out of `lost` the classes that get preference updates whatever the user chose.
    pub(crate) fn keep_preference_receivers(&self, lost: &mut [u64]) {
        for (lost, keep) in lost.iter_mut().zip(self.receives_preferences.words()) {
            *lost &= !keep;
        }
    }
}

fn union(into: &mut [u64], set: &BitSet) {
    for (into, word) in into.iter_mut().zip(set.words()) {
        *into |= word;
    }
}

fn rule_of(
    destination: &DestinationSpec,
    spec: &TableSpec,
    categories: &NameIndex,
) -> Result<Rule, SpecError> {
    let mut required = Vec::new();
    for id in &destination.categories {
        let index = categories.get(id.as_bytes()).ok_or_else(|| SpecError::UnknownCategory {
            destination: destination.name.clone(),
            category: id.clone(),
        })?;
        if spec.categories[usize::from(index)].enabled {
            required.push(index);
        }
    }
    required.sort_unstable();
    required.dedup();
    for source in destination.sources.iter().flatten() {
        if !spec.sources.iter().any(|known| known.name == *source) {
            return Err(SpecError::UnknownSource {
                destination: destination.name.clone(),
                source: source.clone(),
            });
        }
    }
    let sorted = |names: &Option<Vec<String>>| {
        names.clone().map(|mut names| {
            names.sort_unstable();
            names.dedup();
            names
        })
    };
    Ok(Rule {
        enabled: destination.enabled,
        sources: sorted(&destination.sources),
        enforce: destination.enforce,
        required,
        match_mode: destination.match_mode,
        receives_preferences: destination.receives_preferences,
        types: sorted(&destination.types),
    })
}

/// A hash of everything that decides about consent for destinations with this rule.
fn consent_of(rule: &Rule, spec: &TableSpec) -> u64 {
    let Rule { enforce, required, match_mode, receives_preferences, .. } = rule;
    // Positions are those of one table.
    let mut ids: Vec<&str> =
        required.iter().map(|at| spec.categories[usize::from(*at)].id.as_str()).collect();
    ids.sort_unstable();
    let of_all = (&spec.locations, spec.missing, spec.unmapped);
    let content = (enforce, ids, match_mode, receives_preferences, of_all);
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(format!("{content:?}").as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Sixteen hex digits of BLAKE3 over everything that decides; the version is not part of it.
fn hash_of(spec: &TableSpec) -> String {
    let content = TableSpec { version: 0, ..spec.clone() };
    let digest = blake3::hash(format!("{content:?}").as_bytes());
    digest.to_hex().chars().take(16).collect()
}
