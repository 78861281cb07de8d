//! A routing table as the config describes it, before anything is compiled, and a short text form
//! in which the hand-written cases write one down.

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Policy {
    Allow,
    Deny,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Match {
    All,
    Any,
}

#[derive(Debug, Clone)]
pub(crate) struct Category {
    pub(crate) id: String,
    pub(crate) enabled: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) missing: Option<Policy>,
}

#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) sources: Option<Vec<String>>,
    pub(crate) enforce: bool,
    pub(crate) categories: Vec<String>,
    pub(crate) match_mode: Match,
    pub(crate) integration: String,
    pub(crate) receives_preferences: bool,
    pub(crate) types: Option<Vec<String>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) categories: Vec<Category>,
    /// JSON pointers, `/context/<a>` or `/context/<a>/<b>`, in the order in which they are tried.
    pub(crate) locations: Vec<String>,
    pub(crate) missing: Policy,
    pub(crate) unmapped: Policy,
    pub(crate) sources: Vec<Source>,
    pub(crate) destinations: Vec<Destination>,
}

pub(crate) const DEFAULT_LOCATIONS: [&str; 2] =
    ["/context/consent/categoryPreferences", "/context/consentCategories"];

impl Destination {
    /// A destination with every option at its default.
    pub(crate) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            enabled: true,
            sources: None,
            enforce: true,
            categories: Vec::new(),
            match_mode: Match::All,
            integration: name.to_owned(),
            receives_preferences: false,
            types: None,
        }
    }

    /// `"name: word word"`: `disabled`, `exempt` (enforce = false), `any`, `told`
    /// (receives_preferences), `integration=x`, `types=a,b`, `sources=a,b`; other words are categories.
    pub(crate) fn parse(text: &str) -> Self {
        let (name, words) = text.split_once(':').unwrap_or((text, ""));
        let list = |csv: &str| Some(csv.split(',').map(str::to_owned).collect());
        let mut destination = Self::named(name);
        for word in words.split_whitespace() {
            match word.split_once('=').unwrap_or((word, "")) {
                ("disabled", _) => destination.enabled = false,
                ("exempt", _) => destination.enforce = false,
                ("any", _) => destination.match_mode = Match::Any,
                ("told", _) => destination.receives_preferences = true,
                ("integration", name) => destination.integration = name.to_owned(),
                ("types", types) => destination.types = list(types),
                ("sources", sources) => destination.sources = list(sources),
                (category, _) => destination.categories.push(category.to_owned()),
            }
        }
        destination
    }
}

impl Model {
    /// Everything at its default, `missing = "allow"`. A category in parentheses is switched off.
    pub(crate) fn parse(categories: &str, destinations: &[&str]) -> Self {
        Self {
            categories: categories
                .split_whitespace()
                .map(|word| Category {
                    id: word.trim_matches(['(', ')']).to_owned(),
                    enabled: !word.starts_with('('),
                })
                .collect(),
            locations: DEFAULT_LOCATIONS.map(str::to_owned).to_vec(),
            missing: Policy::Allow,
            unmapped: Policy::Allow,
            sources: Vec::new(),
            destinations: destinations.iter().map(|text| Destination::parse(text)).collect(),
        }
    }
}
