//! The load test's own reading of consent: slow, plain, and written from the specification alone.
//!
//! Owns: which destinations an event must reach, and that it must reach no other. Does not own:
//! what was really delivered (`sink`).
//!
//! Always: nothing here is shared with the daemon, so that one mistake is not made twice.

mod table;
mod tree;

#[cfg(test)]
mod tests;

pub use self::table::Expectations;
use self::tree::Node;
use crate::corpus::PREFERENCE_UPDATED;
use crate::plan::{Match, Plan, Rule};

/// The top-level object is depth 1.
const DEPTH_MAX: usize = 64;

const TOP_LEVEL_KEYS: [&str; 7] =
    ["type", "event", "userId", "anonymousId", "messageId", "context", "integrations"];
const LOCATIONS: [&str; 2] = ["consent", "consentCategories"];

/// What an event says about its end user's consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consent {
    /// Nothing is said; the plan's `missing` decides.
    NotProvided,
    /// The categories whose value is the literal `true`.
    Given(Vec<String>),
    /// Something is said that cannot be understood: every category is refused.
    Malformed,
}

/// An accepted event, as far as the decision depends on it.
#[derive(Debug)]
pub struct Reading {
    /// Of the end user.
    pub consent: Consent,
    kind: Option<String>,
    tells_preferences: bool,
    /// Name and whether it is on; `None` without an `integrations` object.
    integrations: Vec<(String, Node)>,
}

impl Reading {
    /// Reads one line; `None` when it must be rejected.
    pub fn of(line: &[u8]) -> Option<Self> {
        let event: Node = serde_json::from_slice(line).ok()?;
        let well_formed = event.members().is_some() && event.depth() <= DEPTH_MAX;
        if !well_formed || repeats_a_key(&event) {
            return None;
        }
        let kind = event.get("type").and_then(Node::text).map(str::to_owned);
        let tells_preferences = kind.as_deref() == Some("track")
            && event.get("event").and_then(Node::text) == Some(PREFERENCE_UPDATED);
        if tells_preferences && !preferences_are_valid(&event) {
            return None;
        }
        let integrations = event.get("integrations").and_then(Node::members).unwrap_or_default();
        Some(Self {
            consent: consent(&event, !integrations.is_empty()),
            kind,
            tells_preferences,
            integrations: integrations.to_vec(),
        })
    }

    /// Which of the plan's categories are granted, by index.
    pub fn granted(&self, plan: &Plan) -> Vec<bool> {
        let is_granted = |category: &String| match &self.consent {
            Consent::NotProvided => plan.missing_allows,
            Consent::Given(granted) => granted.contains(category),
            Consent::Malformed => false,
        };
        plan.categories.iter().map(is_granted).collect()
    }

    /// May the destination have the event? `granted` is [`Reading::granted`] of the same plan.
    pub fn reaches(&self, rule: &Rule, granted: &[bool]) -> bool {
        self.consent_allows(rule, granted) && self.integration_is_on(rule) && self.is_of_type(rule)
    }

    fn consent_allows(&self, rule: &Rule, granted: &[bool]) -> bool {
        if rule.categories.is_empty() || (rule.receives_preferences && self.tells_preferences) {
            return true;
        }
        let mut required = rule.categories.iter().map(|category| granted[*category]);
        match rule.mode {
            Match::All => required.all(|is_granted| is_granted),
            Match::Any => required.any(|is_granted| is_granted),
        }
    }

    fn integration_is_on(&self, rule: &Rule) -> bool {
        let named = |name: &str| self.integrations.iter().find(|(key, _)| key == name);
        match named(&rule.integration) {
            Some((_, value)) => matches!(value, Node::Bool(true) | Node::Object(_)),
            None => !matches!(named("All"), Some((_, Node::Bool(false)))),
        }
    }

    fn is_of_type(&self, rule: &Rule) -> bool {
        rule.types.is_empty()
            || self.kind.as_deref().is_some_and(|kind| rule.types.iter().any(|name| name == kind))
    }
}

fn consent(event: &Node, has_integrations: bool) -> Consent {
    let context = match event.get("context") {
        None | Some(Node::Null) => return Consent::NotProvided,
        Some(context @ Node::Object(_)) => context,
        Some(_) => return Consent::Malformed,
    };
    let consent = context.get("consent");
    if consent.is_some_and(|consent| consent.members().is_none()) {
        return Consent::Malformed;
    }
    match (preferences(context), consent) {
        (Some(Node::Object(members)), _) => {
            let granted = members.iter().filter(|(_, value)| *value == Node::Bool(true));
            Consent::Given(granted.map(|(category, _)| category.clone()).collect())
        }
        (Some(_), _) => Consent::Malformed,
        (None, Some(_)) if has_integrations => Consent::Malformed,
        (None, _) => Consent::NotProvided,
    }
}

/// The preferences of the first location that exists, whatever they are.
fn preferences(context: &Node) -> Option<&Node> {
    let standard = context.get("consent").and_then(|consent| consent.get("categoryPreferences"));
    standard.or_else(|| context.get("consentCategories"))
}

fn repeats_a_key(event: &Node) -> bool {
    let repeats_any = |node: Option<&Node>| node.is_some_and(|node| node.repeats(None));
    let context = event.get("context");
    let consent = context.and_then(|context| context.get("consent"));
    event.repeats(Some(&TOP_LEVEL_KEYS))
        || context.is_some_and(|context| context.repeats(Some(&LOCATIONS)))
        || repeats_any(consent)
        || repeats_any(consent.and_then(|consent| consent.get("categoryPreferences")))
        || repeats_any(context.and_then(|context| context.get("consentCategories")))
        || repeats_any(event.get("integrations"))
}

/// The event that tells of changed preferences must carry them, and each must be a boolean.
fn preferences_are_valid(event: &Node) -> bool {
    let members = event.get("context").and_then(preferences).and_then(Node::members);
    members.is_some_and(|members| members.iter().all(|(_, value)| matches!(value, Node::Bool(_))))
}
