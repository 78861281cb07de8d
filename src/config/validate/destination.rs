//! `[destinations.NAME]`: which events it receives, and what all of them may hold together.

use std::collections::{HashMap, HashSet};

use super::Check;
use crate::config::model::{Daemon, Destination};
use crate::config::raw::{self, At, Named, defaults};
use crate::config::structure::join;
use crate::route::{DestinationSpec, MAX_DESTINATIONS, MAX_TYPES, Match};

const TYPES_MAX: usize = 64;

impl Check<'_, '_> {
    pub(super) fn destinations(
        &mut self,
        raw: Option<&At<Named<raw::Destination>>>,
        daemon: &Daemon,
    ) -> Vec<Destination> {
        let entries = raw.map_or(&[][..], |raw| &raw.0);
        if entries.is_empty() && !self.report.is_spoilt("destinations") {
            let span = raw.map_or(0..0, |raw| raw.span.clone());
            let message = "there are no destinations: no event goes out";
            self.report.warn(&span, "destinations", message, "write [destinations.NAME] with type");
        }
        if let Some((name, _)) = entries.get(MAX_DESTINATIONS) {
            let message = format!("more than {MAX_DESTINATIONS} destinations");
            self.report.error(&name.span, "destinations", message, "run a second daemon");
        }
        self.names.destinations = entries.iter().map(|(name, _)| name.value.clone()).collect();
        let share = daemon.memory_max as u64 / entries.len().max(1) as u64;
        let buffer = share.clamp(defaults::BUFFER_MIN, defaults::BUFFER);
        let destinations: Vec<Destination> = entries
            .iter()
            .filter_map(|(name, raw)| {
                let route = self.rules(name, raw);
                let delivery = self.delivery(name, raw, buffer)?;
                Some(Destination { route, delivery })
            })
            .collect();
        self.budget(entries, &destinations, daemon);
        self.same_paths(entries);
        self.all_types(entries);
        destinations
    }

    /// The buffers must fit into the bound on all of them.
    fn budget(
        &mut self,
        entries: &[(At<String>, raw::Destination)],
        destinations: &[Destination],
        daemon: &Daemon,
    ) {
        let sum: u64 = destinations.iter().map(|d| d.delivery.buffer as u64).sum();
        if sum <= daemon.memory_max as u64 {
            return;
        }
        let given = entries.iter().filter_map(|(name, raw)| Some((name, raw.buffer.as_ref()?)));
        let built = |name: &String| destinations.iter().find(|d| d.route.name == *name);
        let largest = given.max_by_key(|(name, _)| built(name).map(|d| d.delivery.buffer));
        let (span, key) = match largest {
            Some((name, buffer)) => {
                (buffer.span.clone(), format!("{}.buffer", join("destinations", name)))
            }
            None => (0..0, "daemon.memory_max".to_owned()),
        };
        let message = format!(
            "the buffers of all destinations together are {}, daemon.memory_max is {}",
            defaults::size(sum),
            defaults::size(daemon.memory_max as u64)
        );
        let mib = sum.div_ceil(1 << 20) << 20;
        let help = format!(
            "write memory_max = \"{}\" in [daemon], or smaller values of `buffer`",
            defaults::size(mib)
        );
        self.report.error(&span, &key, message, help);
    }

    /// What all of `types` name together is an index of the table.
    fn all_types(&mut self, entries: &[(At<String>, raw::Destination)]) {
        let mut known: HashSet<&str> = HashSet::new();
        for (name, raw) in entries {
            let Some(types) = &raw.types else { continue };
            known.extend(types.iter().map(|kind| kind.as_str()));
            if known.len() > MAX_TYPES {
                let key = format!("{}.types", join("destinations", name));
                let message =
                    format!("up to here, more than {MAX_TYPES} different event types are named");
                let help = "name fewer, or take the key out for all types";
                self.report.error(&types.span, &key, message, help);
                return;
            }
        }
    }

    fn same_paths(&mut self, entries: &[(At<String>, raw::Destination)]) {
        let mut owners: HashMap<&str, &str> = HashMap::new();
        for (name, raw) in entries {
            // A device may be written to by anybody.
            let Some(path) = raw.path.as_ref().filter(|path| !path.value.starts_with("/dev/"))
            else {
                continue;
            };
            if let Some(owner) = owners.insert(path, name) {
                let key = format!("{}.path", join("destinations", name));
                let message = format!("the destination `{owner}` writes to the same path");
                let help = "a file belongs to one destination; write another path";
                self.report.error(&path.span, &key, message, help);
            }
        }
    }

    fn rules(&mut self, name: &At<String>, raw: &raw::Destination) -> DestinationSpec {
        let path = join("destinations", name);
        self.name(name, &path);
        let integration = raw.integration.as_ref().unwrap_or(name);
        if integration.value == "All" {
            let message = "`All` stands for every destination in the integrations of events";
            let help = "write integration = \"...\" with another name";
            self.report.error(&integration.span, &format!("{path}.integration"), message, help);
        }
        let spec = DestinationSpec {
            name: name.value.clone(),
            enabled: is(raw.enabled.as_ref(), true),
            sources: raw.sources.as_ref().map(|sources| self.source_names(sources, &path)),
            enforce: is(raw.enforce.as_ref(), true),
            categories: self.category_ids(raw.categories.as_ref(), &path),
            match_mode: match raw.match_mode.as_ref().map(|mode| mode.value) {
                None | Some(raw::Match::All) => Match::All,
                Some(raw::Match::Any) => Match::Any,
            },
            integration: integration.value.clone(),
            receives_preferences: is(raw.receives_preferences.as_ref(), false),
            types: raw.types.as_ref().map(|types| self.event_types(types, &path)),
        };
        self.odd_rules(name, raw, &spec, &path);
        spec
    }

    fn source_names(&mut self, sources: &At<Vec<At<String>>>, path: &str) -> Vec<String> {
        let key = format!("{path}.sources");
        for (position, source) in sources.iter().enumerate() {
            let spoilt = ["sources", "models"].iter().any(|section| {
                self.report.is_spoilt(section) || self.report.is_spoilt(&join(section, source))
            });
            if !spoilt && !self.names.sources.contains(&source.value) {
                let known = self.names.sources.clone();
                self.dangling(source, &format!("{key}[{position}]"), "source", &known);
            }
        }
        if sources.is_empty() {
            let help = "name a source, or take the key out for all sources";
            self.report.warn(&sources.span, &key, "takes events from no source", help);
        }
        self.strings(sources, &key)
    }

    fn category_ids(&mut self, ids: Option<&At<Vec<At<String>>>>, path: &str) -> Vec<String> {
        let Some(ids) = ids else { return Vec::new() };
        let key = format!("{path}.categories");
        for (position, id) in ids.iter().enumerate() {
            if !self.names.categories.contains_key(&id.value) && !self.categories_unclear() {
                let known = self.names.category_ids.clone();
                self.dangling(id, &format!("{key}[{position}]"), "category", &known);
            }
        }
        self.strings(ids, &key)
    }

    fn event_types(&mut self, types: &At<Vec<At<String>>>, path: &str) -> Vec<String> {
        let key = format!("{path}.types");
        if types.len() > TYPES_MAX {
            let message = format!("more than {TYPES_MAX} event types");
            self.report.error(&types.span, &key, message, "take the key out for all types");
        }
        if types.is_empty() {
            let help = "name a type such as \"track\", or take the key out for all types";
            self.report.warn(&types.span, &key, "takes no type of event", help);
        }
        self.strings(types, &key)
    }

    /// What the rules say that can't be meant, although it does no harm.
    fn odd_rules(
        &mut self,
        name: &At<String>,
        raw: &raw::Destination,
        spec: &DestinationSpec,
        path: &str,
    ) {
        let key = |key: &str| format!("{path}.{key}");
        if !spec.enabled {
            self.report.warn(&name.span, &key("enabled"), "this destination is off", "");
        }
        if !spec.enforce {
            if let Some(categories) = raw.categories.as_ref().filter(|ids| !ids.is_empty()) {
                let message = "not asked for, because enforce = false";
                self.report.warn(&categories.span, &key("categories"), message, "take it out");
            }
            return;
        }
        let mut categories = spec.categories.iter();
        let enabled = categories.any(|id| self.names.categories.get(id).is_none_or(|&on| on));
        if !enabled && !self.report.is_spoilt(&key("categories")) {
            let message = if spec.categories.is_empty() {
                "no categories: consent.unmapped decides about every event"
            } else {
                "all its categories are off: consent.unmapped decides about every event"
            };
            let help = "write categories = [\"...\"], or enforce = false if consent does not apply";
            self.report.warn(&name.span, &key("categories"), message, help);
        }
        if spec.categories.is_empty() {
            let message = "has no effect without categories";
            if let Some(mode) = &raw.match_mode {
                self.report.warn(&mode.span, &key("match"), message, "");
            }
            if let Some(receives) = raw.receives_preferences.as_ref().filter(|on| on.value) {
                self.report.warn(&receives.span, &key("receives_preferences"), message, "");
            }
        }
    }

    /// Whether a category may be there whose ID could not be read.
    pub(super) fn categories_unclear(&self) -> bool {
        self.names.some_category_has_no_id || self.report.is_spoilt("categories")
    }
}

pub(super) fn is(given: Option<&At<bool>>, default: bool) -> bool {
    given.map_or(default, |given| given.value)
}
