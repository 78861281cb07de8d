//! Random tables and changes, over several syncs: what each destination holds in the end, against a slow
//! oracle that knows the table and the rules, and nothing of syncs.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::harness::{Config, Folder};
use crate::replica::{Replica, Rows};
use crate::world::{Model, World};

const CATEGORIES: [&str; 3] = ["Ads", "Stats", "Gone"];

/// A row; what it grants is by category, the last of which no model maps.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: Option<String>,
    pub(crate) plan: Option<i64>,
    pub(crate) grants: [Option<bool>; 2],
}

impl Row {
    pub(crate) fn random(rng: &mut Rng, id: Option<String>) -> Self {
        let mut grant = || *rng.choice([Some(true), Some(true), Some(false), None].iter()).unwrap();
        let grants = [grant(), grant()];
        Self { id, plan: rng.bool().then(|| rng.i64(0..1000)), grants }
    }

    /// The event, without its `messageId`.
    fn event(&self) -> Value {
        let [ads, stats] = self.grants.map(|grant| grant == Some(true));
        json!({
            "type": "identify",
            "userId": self.id,
            "traits": { "plan": self.plan, "ads": self.grants[0], "stats": self.grants[1] },
            "context": { "consent": { "categoryPreferences": { "Ads": ads, "Stats": stats } } }
        })
    }
}

/// What a destination asks for.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) categories: Vec<usize>,
    pub(crate) any: bool,
}

impl Rule {
    fn random(rng: &mut Rng, number: usize) -> Self {
        let categories = (0..3).filter(|category| rng.u8(..) < [150, 150, 20][*category]).collect();
        Self { name: format!("d{number}"), categories, any: rng.bool() }
    }

    fn admits(&self, row: &Row) -> bool {
        let granted = |category: &usize| row.grants.get(*category) == Some(&Some(true));
        self.categories.is_empty()
            || if self.any {
                self.categories.iter().any(granted)
            } else {
                self.categories.iter().all(granted)
            }
    }

    pub(crate) fn add_to(&self, folder: &Folder, config: Config) -> Config {
        let categories: Vec<&str> = self.categories.iter().map(|at| CATEGORIES[*at]).collect();
        let how = if self.any && !categories.is_empty() { "match = \"any\"" } else { "" };
        config.file(folder, &self.name, format!("categories = {categories:?}\n{how}"))
    }
}

/// What a destination must hold, from one sync to the next.
pub(crate) fn expected(rule: &Rule, before: &Rows, table: &[Row]) -> Rows {
    let mut by_id: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    for row in table.iter().filter(|row| row.id.is_some()) {
        by_id.entry(json!(row.id).to_string()).or_default().push(row);
    }
    let event = |(id, rows): (String, Vec<&Row>)| {
        let grants = |at: usize| Some(rows.iter().all(|row| row.grants[at] == Some(true)));
        let certain = Row { grants: [grants(0), grants(1)], ..rows[0].clone() };
        let event = match rows[..] {
            [row] => row.event(),
            // Which one is right nobody knows: what was sent stays, as far as all of them grant it.
            _ => before.get(&id)?.clone(),
        };
        rule.admits(&certain).then_some((id, event))
    };
    by_id.into_iter().filter_map(event).collect()
}

pub(crate) fn write(world: &World, table: &[Row]) {
    let mut connection = world.connection();
    let writing = connection.transaction().unwrap();
    writing.execute("delete from people", []).unwrap();
    {
        let mut insert = writing.prepare("insert into people values (?, ?, ?, ?)").unwrap();
        for Row { id, plan, grants: [ads, stats] } in table {
            insert.execute((id, plan, ads, stats)).unwrap();
        }
    }
    writing.commit().unwrap();
}

/// A world whose destinations have these rules, with the state `local` or in the `warehouse`.
pub(crate) fn world(rules: Vec<Rule>, state: &str) -> World {
    let table = "create table people (id text, plan integer, ads boolean, stats boolean)";
    // All columns are in the event, so that rows that differ are events that differ.
    let event = "{ type = \"identify\", userId = \"$id\", \
                 traits = { plan = \"$plan\", ads = \"$ads\", stats = \"$stats\" } }";
    let model = Model::new().set("event", event).set("state", format!("{state:?}"));
    World::new(table, model, move |folder, config| {
        let config = config.categories(&["Gone"]);
        rules.iter().fold(config, |config, rule| rule.add_to(folder, config))
    })
}

/// Ids that must stay what they are, and few enough that they come again.
fn id(rng: &mut Rng) -> Option<String> {
    const ODD: [&str; 8] = ["", "1", "\"", "a\\b", "\u{e9}\u{1f600}", "null", "a b", "\u{1}"];
    match rng.usize(0..40) {
        0 => None,
        number @ 1..=8 => Some(ODD[number - 1].to_owned()),
        number => Some(format!("user-{number}")),
    }
}

fn change(rng: &mut Rng, table: &mut Vec<Row>) {
    match rng.usize(0..12) {
        0 => table.clear(),
        1 => {}
        _ => table.retain(|_| rng.u8(..) > 40),
    }
    for row in table.iter_mut() {
        if rng.u8(..) < 80 {
            *row = Row::random(rng, row.id.clone());
        }
    }
    for _ in 0..rng.usize(0..12) {
        let id = id(rng);
        // Mostly new ones, at times a repeated one.
        if rng.u8(..) < 20 || !table.iter().any(|row| row.id == id) {
            let row = Row::random(rng, id);
            table.push(row);
        }
    }
    rng.shuffle(table);
}

/// The rows that came, in all.
fn run(seed: u64, syncs: usize, state: &str) -> u64 {
    let rng = &mut Rng::with_seed(seed);
    let rules: Vec<Rule> = (0..rng.usize(1..6)).map(|number| Rule::random(rng, number)).collect();
    let mut world = world(rules.clone(), state);
    let mut replicas: Vec<Replica> = rules.iter().map(|_| Replica::default()).collect();
    let mut table = Vec::new();
    let mut fetched = 0;
    for sync in 0..syncs {
        change(rng, &mut table);
        write(&world, &table);
        let record = world.run("");
        assert_eq!(record["state"], "done", "seed {seed}, sync {sync}: {record}");
        let sum: u64 = ["added", "updated", "unchanged", "skipped"]
            .iter()
            .filter_map(|it| record[*it].as_u64())
            .sum();
        assert_eq!(record["rows"], sum, "every row counts once: {record}");
        fetched += record["fetched"].as_u64().unwrap();
        for (rule, replica) in rules.iter().zip(&mut replicas) {
            let expected = expected(rule, replica.rows(), &table);
            replica
                .take(&format!("seed {seed}, sync {sync}: {}", rule.name), &world.take(&rule.name));
            assert_eq!(*replica.rows(), expected, "seed {seed}, sync {sync}: {rule:?}");
        }
    }
    fetched
}

/// `CONSENTD_CYCLES=1000` is the long campaign.
#[test]
fn every_destination_holds_exactly_the_rows_that_grant_it() {
    let worlds =
        std::env::var("CONSENTD_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    let (mut local, mut elsewhere) = (0, 0);
    for seed in 0..worlds {
        local += run(seed, 8, "local");
        elsewhere += run(seed, 8, "warehouse");
    }
    println!(
        "{local} rows came where they are compared here, {elsewhere} where the database does it"
    );
    assert!(elsewhere * 4 < local * 3, "hardly a row was left out: {elsewhere} of {local}");
}
