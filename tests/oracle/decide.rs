//! The decision, paragraph by paragraph of the design, with a loop over destinations.

use super::json::{self, Members, Refusal, Value};
use super::model::{Destination, Match, Model, Policy};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Rejected(&'static str),
    Accepted(Accepted),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    /// `given`, `not_provided` or `malformed`.
    pub(crate) consent: &'static str,
    /// Enabled, configured categories that were granted, in config order.
    pub(crate) granted: Vec<String>,
    /// Keys of the preferences in use that the config does not know.
    pub(crate) unknown_categories: usize,
    /// One per destination, in config order.
    pub(crate) verdicts: Vec<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    Deliver,
    Drop(&'static str),
}

enum Consent<'a> {
    NotProvided,
    Given(&'a Members),
    Malformed,
}

const PREFERENCE_EVENT: &str = "Segment Consent Preference Updated";

/// Top-level keys that consentd reads.
const KEYS_READ: [&str; 7] =
    ["type", "event", "userId", "anonymousId", "messageId", "context", "integrations"];

/// `source` is `None` where it is not known (`explain` without `--source`).
pub(crate) fn decide(line: &[u8], source: Option<&str>, model: &Model) -> Outcome {
    let event = match json::read_event(line) {
        Ok(event) => event,
        Err(Refusal::InvalidJson) => return Outcome::Rejected("invalid_json"),
        Err(Refusal::TooDeep) => return Outcome::Rejected("too_deep"),
    };
    if repeats_a_key_that_is_read(&event, model) {
        return Outcome::Rejected("duplicate_key");
    }
    if is_preference_event(&event) {
        match preferences_at_first_location(&event, model) {
            None => return Outcome::Rejected("preferences_missing"),
            Some(Value::Object(preferences)) if all_booleans(preferences) => {}
            Some(_) => return Outcome::Rejected("preferences_invalid"),
        }
    }
    let consent = read_consent(&event, model);
    let mut verdicts = Vec::new();
    for destination in &model.destinations {
        verdicts.push(judge(destination, &event, &consent, source, model));
    }
    Outcome::Accepted(Accepted {
        consent: match consent {
            Consent::NotProvided => "not_provided",
            Consent::Given(_) => "given",
            Consent::Malformed => "malformed",
        },
        granted: enabled_ids(model).filter(|id| grants(&consent, id)).map(str::to_owned).collect(),
        unknown_categories: count_unknown(&consent, model),
        verdicts,
    })
}

// "Duplicate keys. [...] An event in which a key that consentd reads stands twice in its object is
// rejected: at the top level `type`, ...; in `context` the names of the locations; in `consent`, in
// the preferences and in `integrations` any key."
fn repeats_a_key_that_is_read(event: &Members, model: &Model) -> bool {
    if KEYS_READ.iter().any(|key| count(event, key) > 1) {
        return true;
    }
    if integrations(event).is_some_and(repeats_any_key) {
        return true;
    }
    let Some(Value::Object(context)) = get(event, "context") else {
        return false;
    };
    for location in &model.locations {
        let (first, second) = segments(location);
        if count(context, first) > 1 {
            return true;
        }
        // Either the preferences themselves or the object around them.
        let Some(Value::Object(outer)) = get(context, first) else {
            continue;
        };
        if repeats_any_key(outer) {
            return true;
        }
        let inner = second.and_then(|second| get(outer, second));
        if let Some(Value::Object(preferences)) = inner
            && repeats_any_key(preferences)
        {
            return true;
        }
    }
    false
}

// "`Segment Consent Preference Updated` (`type` exactly `track`) is checked on the way in [...]
// Other types with that name are ordinary events."
fn is_preference_event(event: &Members) -> bool {
    is_string(get(event, "type"), "track") && is_string(get(event, "event"), PREFERENCE_EVENT)
}

// "without any preferences object it is rejected (one at a later location satisfies it)": whatever
// is malformed on the way to a location only means that this location does not exist.
fn preferences_at_first_location<'a>(event: &'a Members, model: &Model) -> Option<&'a Value> {
    let Some(Value::Object(context)) = get(event, "context") else {
        return None;
    };
    for location in &model.locations {
        let (first, second) = segments(location);
        let found = match (get(context, first), second) {
            (outer, None) => outer,
            (Some(Value::Object(outer)), Some(second)) => get(outer, second),
            (_, Some(_)) => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

// "with a `categoryPreferences` that is not an object whose values are all booleans too"
fn all_booleans(preferences: &Members) -> bool {
    preferences.iter().all(|(_, value)| matches!(value, Value::Bool(_)))
}

// "Reading the consent object. Locations are tried in order, the first that exists is used."
fn read_consent<'a>(event: &'a Members, model: &Model) -> Consent<'a> {
    // "there is no `context`, or it is `null`"; any other that is not an object is malformed.
    let context = match get(event, "context") {
        None | Some(Value::Null) => return Consent::NotProvided,
        Some(Value::Object(context)) => context,
        Some(_) => return Consent::Malformed,
    };
    let mut object_without_preferences = false;
    for location in &model.locations {
        let (first, second) = segments(location);
        let Some(outer) = get(context, first) else {
            continue;
        };
        let Some(second) = second else {
            return preferences(outer);
        };
        // "Anything malformed on the way to the location that is used is `Malformed`."
        let Value::Object(outer) = outer else {
            return Consent::Malformed;
        };
        match get(outer, second) {
            Some(found) => return preferences(found),
            None => object_without_preferences = true,
        }
    }
    // "no location exists, `context.consent` is an object without `categoryPreferences`, and a
    // non-empty integrations object is present" is malformed; otherwise nothing was provided.
    let integrations_present = integrations(event).is_some_and(|object| !object.is_empty());
    if object_without_preferences && integrations_present {
        Consent::Malformed
    } else {
        Consent::NotProvided
    }
}

fn preferences(found: &Value) -> Consent<'_> {
    match found {
        Value::Object(preferences) => Consent::Given(preferences),
        _ => Consent::Malformed,
    }
}

// "Which destinations. In this order; the first test that fails names the reason."
fn judge(
    destination: &Destination,
    event: &Members,
    consent: &Consent<'_>,
    source: Option<&str>,
    model: &Model,
) -> Verdict {
    // 1. "`disabled`: the destination is switched off. `source`: it names `sources` and this one is
    // not among them." Without a source the source test passes.
    if !destination.enabled {
        return Verdict::Drop("disabled");
    }
    if let (Some(sources), Some(source)) = (&destination.sources, source)
        && !sources.iter().any(|name| name == source)
    {
        return Verdict::Drop("source");
    }
    // 2. "`consent`: only for destinations with `enforce = true`"; one with `receives_preferences`
    // "gets the track event [...] whatever the user chose".
    let is_told = destination.receives_preferences && is_preference_event(event);
    if destination.enforce && !is_told && !consents(destination, consent, source, model) {
        return Verdict::Drop("consent");
    }
    // 3. "`integrations`: the event's `integrations` object"
    if let Some(integrations) = integrations(event)
        && !switched_on(&destination.integration, integrations)
    {
        return Verdict::Drop("integrations");
    }
    // 4. "`filtered`: it lists `types` and the event's `type` is not among them."
    if let Some(types) = &destination.types
        && !types.iter().any(|name| is_string(get(event, "type"), name))
    {
        return Verdict::Drop("filtered");
    }
    Verdict::Deliver
}

fn consents(
    destination: &Destination,
    consent: &Consent<'_>,
    source: Option<&str>,
    model: &Model,
) -> bool {
    // "Its categories are those it lists that are enabled. None: it is unmapped."
    let mut required = enabled_ids(model)
        .filter(|id| destination.categories.iter().any(|listed| listed == id))
        .peekable();
    if required.peek().is_none() {
        return model.unmapped == Policy::Allow;
    }
    match consent {
        // "`consent.missing` decides [...] A source may override it."
        Consent::NotProvided => missing(source, model) == Policy::Allow,
        Consent::Given(_) | Consent::Malformed => match destination.match_mode {
            Match::All => required.all(|id| grants(consent, id)),
            Match::Any => required.any(|id| grants(consent, id)),
        },
    }
}

fn missing(source: Option<&str>, model: &Model) -> Policy {
    for configured in &model.sources {
        if Some(configured.name.as_str()) == source {
            return configured.missing.unwrap_or(model.missing);
        }
    }
    model.missing
}

// "For a named destination `true` or an object means on, anything else off. A name that is absent
// follows `All`, which is off only where it is the literal `false`."
fn switched_on(name: &str, integrations: &Members) -> bool {
    match get(integrations, name) {
        Some(named) => matches!(named, Value::Bool(true) | Value::Object(_)),
        None => get(integrations, "All") != Some(&Value::Bool(false)),
    }
}

// "An `integrations` that is not an object counts as absent."
fn integrations(event: &Members) -> Option<&Members> {
    match get(event, "integrations") {
        Some(Value::Object(integrations)) => Some(integrations),
        _ => None,
    }
}

// "a category is granted only where its value is the literal `true`"
fn grants(consent: &Consent<'_>, id: &str) -> bool {
    match consent {
        Consent::Given(preferences) => get(preferences, id) == Some(&Value::Bool(true)),
        Consent::NotProvided | Consent::Malformed => false,
    }
}

// "IDs that the table does not know are ignored (and counted)": one that is switched off is known.
fn count_unknown(consent: &Consent<'_>, model: &Model) -> usize {
    let known = |key: &str| model.categories.iter().any(|category| category.id == key);
    match consent {
        Consent::Given(preferences) => preferences.iter().filter(|(key, _)| !known(key)).count(),
        Consent::NotProvided | Consent::Malformed => 0,
    }
}

fn enabled_ids(model: &Model) -> impl Iterator<Item = &str> {
    model.categories.iter().filter(|category| category.enabled).map(|category| category.id.as_str())
}

/// The one or two names below `/context/`.
pub(crate) fn segments(location: &str) -> (&str, Option<&str>) {
    let path = location.trim_start_matches("/context/");
    match path.split_once('/') {
        Some((first, second)) => (first, Some(second)),
        None => (path, None),
    }
}

fn get<'a>(object: &'a Members, key: &str) -> Option<&'a Value> {
    object.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

fn count(object: &Members, key: &str) -> usize {
    object.iter().filter(|(name, _)| name == key).count()
}

fn repeats_any_key(object: &Members) -> bool {
    object.iter().any(|(key, _)| count(object, key) > 1)
}

fn is_string(value: Option<&Value>, wanted: &str) -> bool {
    matches!(value, Some(Value::String(text)) if text == wanted)
}
