//! Categories and destinations such that an event reaches about as many of them as one asks for.

use fastrand::Rng;

use crate::corpus::{CATEGORIES, INTEGRATIONS};
use crate::expect::Reading;

/// How a destination's categories combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Every category must be granted.
    All,
    /// One must be.
    Any,
}

impl Match {
    /// As the config spells it.
    pub fn key(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Any => "any",
        }
    }
}

/// What one destination demands.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Unique in the plan.
    pub name: String,
    /// Indexes into [`Plan::categories`]; none means that everything is allowed.
    pub categories: Vec<usize>,
    /// How they combine.
    pub mode: Match,
    /// The name by which `integrations` objects speak of it.
    pub integration: String,
    /// The types of events that it wants; none means all.
    pub types: Vec<String>,
    /// Does it want to know of changed preferences whatever they are?
    pub receives_preferences: bool,
}

/// What decides where an event goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Category IDs.
    pub categories: Vec<String>,
    /// What becomes of events that say nothing about consent.
    pub missing_allows: bool,
    /// One per destination, in the order of the config.
    pub rules: Vec<Rule>,
}

/// Above this many destinations, events without consent would spoil the average if they went
/// everywhere.
const MISSING_ALLOWED_MAX: usize = 8;

impl Plan {
    /// `destinations` of which an event reaches `fan_out` on average, or as many as can be when
    /// every destination demands only one category. `sample` is some of the corpus.
    pub fn with_fan_out(destinations: usize, fan_out: f64, sample: &[Vec<u8>]) -> Self {
        let mut plan = Self {
            categories: CATEGORIES.iter().map(|category| category.to_string()).collect(),
            missing_allows: destinations <= MISSING_ALLOWED_MAX,
            rules: (0..destinations).map(Rule::open).collect(),
        };
        let chances = Chances::of(sample, &plan);
        let mut rng = Rng::with_seed(destinations as u64);
        let mut wanted = fan_out;
        let mut strict = Vec::new();
        for (index, rule) in plan.rules.iter_mut().enumerate() {
            if destinations >= 8 && index == 5 {
                rule.mode = Match::Any;
                rule.categories = some_categories(2, &mut rng);
                wanted -= 2.0 * chances.all_of(1) - chances.all_of(2);
            } else {
                strict.push(rule);
            }
        }
        let share = wanted / strict.len() as f64;
        let most = (1..=CATEGORIES.len()).filter(|count| chances.all_of(*count) >= share);
        let loose = most.max().unwrap_or(1);
        let mut reached = 0.0;
        for (index, rule) in strict.into_iter().enumerate() {
            let keeps_up = reached + chances.all_of(loose) <= share * (index + 1) as f64;
            let count = if keeps_up || share >= chances.all_of(1) { loose } else { loose + 1 };
            reached += chances.all_of(count);
            rule.categories = some_categories(count, &mut rng);
        }
        plan
    }
}

impl Rule {
    /// Without categories; some have names, types and preferences of their own.
    fn open(index: usize) -> Self {
        let name = format!("d{index:03}");
        let types: &[&str] = if index % 16 == 6 { &["track", "page", "screen"] } else { &[] };
        Self {
            integration: INTEGRATIONS.get(index).map_or(name.clone(), |name| name.to_string()),
            name,
            categories: Vec::new(),
            mode: Match::All,
            types: types.iter().map(|kind| kind.to_string()).collect(),
            receives_preferences: index % 16 == 3,
        }
    }
}

/// How likely an event grants a given set of categories.
struct Chances {
    /// Granted categories of each accepted event of the sample.
    granted: Vec<usize>,
}

impl Chances {
    fn of(sample: &[Vec<u8>], plan: &Plan) -> Self {
        let readings = sample.iter().filter_map(|line| Reading::of(line));
        let count = |reading: Reading| reading.granted(plan).iter().filter(|on| **on).count();
        Self { granted: readings.map(count).collect() }
    }

    /// The chance that all of `count` categories, taken at random, are granted.
    fn all_of(&self, count: usize) -> f64 {
        let of = CATEGORIES.len();
        let chance = |granted: &usize| -> f64 {
            (0..count)
                .map(|i| granted.saturating_sub(i) as f64 / of.saturating_sub(i) as f64)
                .product()
        };
        if count > of {
            return 0.0;
        }
        self.granted.iter().map(chance).sum::<f64>() / self.granted.len().max(1) as f64
    }
}

fn some_categories(count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut categories: Vec<usize> = (0..CATEGORIES.len()).collect();
    rng.shuffle(&mut categories);
    categories.truncate(count);
    categories.sort_unstable();
    categories
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Corpus, Profile};
    use crate::expect::Expectations;

    #[test]
    fn an_event_reaches_about_three_destinations_however_many_there_are() {
        let lines = Corpus::new(1, Profile::default()).lines(4000);
        for destinations in [8, 64, 512] {
            let plan = Plan::with_fan_out(destinations, 3.0, &lines);
            let fan_out = Expectations::by_consent(&lines, &plan).fan_out();
            assert!((2.4..3.3).contains(&fan_out), "{destinations}: {fan_out}");
        }
    }

    #[test]
    fn three_destinations_demand_one_category_each() {
        let lines = Corpus::new(1, Profile::default()).lines(4000);
        let plan = Plan::with_fan_out(3, 3.0, &lines);
        assert!(plan.rules.iter().all(|rule| rule.categories.len() == 1));
        let fan_out = Expectations::by_consent(&lines, &plan).fan_out();
        assert!((1.3..1.8).contains(&fan_out), "{fan_out}");
    }
}
