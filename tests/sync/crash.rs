//! Syncs and daemons that are killed: at random times, and at every write.
//!
//! What always holds in the end: every destination holds exactly the rows that grant it. What came twice
//! has the same `messageId`, and is the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::elsewhere::tables;
use crate::harness::{Config, Folder, Tracer, consentd, wait_for};
use crate::property::{Row, Rule, expected, world, write};
use crate::replica::Replica;
use crate::tools;
use crate::world::{Model, PEOPLE, World, children, kill};

const ROWS: usize = 3000;

fn rules() -> Vec<Rule> {
    let rule = |name: &str, categories: &[usize]| Rule {
        name: name.to_owned(),
        categories: categories.to_vec(),
        any: false,
    };
    vec![rule("ads", &[0]), rule("stats", &[1]), rule("both", &[0, 1]), rule("all", &[])]
}

/// A world, its table, and what its destinations hold.
struct Trial {
    world: World,
    rules: Vec<Rule>,
    replicas: Vec<Replica>,
    table: Vec<Row>,
    rng: Rng,
    next_id: usize,
}

impl Trial {
    fn new(state: &str) -> Self {
        let rules = rules();
        let replicas = rules.iter().map(|_| Replica::of_repeated_lines()).collect();
        let (table, rng) = (Vec::new(), Rng::with_seed(7));
        Self { world: world(rules.clone(), state), rules, replicas, table, rng, next_id: 0 }
    }

    /// About a tenth of the rows goes, a third changes, and new ones make up for those that went.
    fn change(&mut self, rows: usize) {
        let rng = &mut self.rng;
        self.table.retain(|_| rng.u8(..) > 25);
        for row in &mut self.table {
            if rng.u8(..) < 85 {
                *row = Row::random(rng, row.id.clone());
            }
        }
        while self.table.len() < rows {
            self.next_id += 1;
            self.table.push(Row::random(rng, Some(format!("user-{}", self.next_id))));
        }
        write(&self.world, &self.table);
    }

    /// A sync to its end; everything must be as it should.
    #[track_caller]
    fn complete(&mut self, what: &str) {
        self.world.start();
        let record = self.world.run("");
        assert_eq!(record["state"], "done", "{what}: {record}");
        for (rule, replica) in self.rules.iter().zip(&mut self.replicas) {
            replica.take(&format!("{what}: {}", rule.name), &self.world.take(&rule.name));
            let expected = expected(rule, replica.rows(), &self.table);
            // Thousands of rows in a message help nobody.
            let lacks = expected.iter().find(|(id, event)| replica.rows().get(*id) != Some(event));
            let surplus = replica.rows().keys().find(|id| !expected.contains_key(*id));
            let wrong = lacks.map(|(id, _)| id).or(surplus);
            let arrived = wrong.map(|id| replica.arrived(id));
            assert_eq!((lacks, surplus), (None, None), "{what}: {rule:?}; {arrived:#?}");
        }
        let counts = crate::world::counts(&self.world.run(""));
        let rows = self.table.len();
        assert_eq!(counts, format!("rows={rows} unchanged={rows}"), "{what}");
        self.only_the_last_table_is_there(what);
    }

    /// What dead syncs have left in the database is gone.
    #[track_caller]
    fn only_the_last_table_is_there(&self, what: &str) {
        let is_kept = self.world.model.to_string().contains("state = \"warehouse\"");
        let tables = tables(&self.world);
        assert_eq!(tables.len(), usize::from(is_kept), "{what}: {tables:?}");
    }

    fn repeated(&self) -> usize {
        self.replicas.iter().map(|replica| replica.repeated).sum()
    }
}

#[test]
fn nothing_is_lost_when_syncs_and_daemons_are_killed() {
    kill_at_random("local");
}

#[test]
fn nothing_is_lost_when_syncs_with_their_state_in_the_warehouse_are_killed() {
    kill_at_random("warehouse");
}

/// `CONSENTD_CYCLES=1000` is the long campaign.
fn kill_at_random(state: &str) {
    let rounds =
        std::env::var("CONSENTD_CYCLES").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut trial = Trial::new(state);
    trial.change(ROWS);
    let started = Instant::now();
    trial.world.run("");
    // At the pace of this machine.
    let longest = started.elapsed().as_micros() as u64;
    trial.complete("the first sync");
    trial.change(ROWS);
    let mut cut = 0;
    for round in 0..rounds {
        for _ in 0..trial.rng.usize(1..4) {
            trial.world.start();
            trial.world.begin("");
            sleep(Duration::from_micros(trial.rng.u64(0..longest)));
            let daemon = trial.world.daemon().id();
            if trial.rng.u8(..) < 60 {
                cut += usize::from(!trial.world.status()["running"].is_null());
                trial.world.kill();
            } else {
                let killed = children(daemon);
                cut += killed.len();
                killed.into_iter().for_each(kill);
                wait_for("the sync is over", || {
                    trial.world.status()["running"].is_null().then_some(())
                });
            }
        }
        trial.complete(&format!("round {round}"));
        trial.change(ROWS);
    }
    println!("{cut} syncs cut off in {rounds} rounds, {} events came twice", trial.repeated());
    assert!(cut > rounds / 4, "hardly a sync was killed before it had ended: {cut}");
}

/// The program that the daemon runs in the place of a child: killed at the write whose number is in the
/// file `kill-at`, if there is one.
fn fragile(world: &World) -> std::path::PathBuf {
    // What changes files, and what is said to the daemon.
    const CALLS: &str =
        "pwrite64,write,fdatasync,fsync,ftruncate,fallocate,rename,renameat,renameat2,unlink";
    let (strace, consentd) = (tools::strace(), consentd());
    let path = world.folder.write(
        "fragile",
        format!(
            "#!/bin/sh\nif read number < {at:?}; then\n  exec {strace:?} -f -o {trace:?} -e trace={CALLS} \
             -e inject={CALLS}:signal=KILL:when=$number {consentd:?} \"$@\"\nfi\nexec {consentd:?} \"$@\"\n",
            at = world.folder.path("kill-at"),
            trace = world.folder.path("trace"),
            strace = strace.get_program(),
            consentd = consentd.get_program(),
        ),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Whether this machine lets processes be traced.
fn can_trace() -> bool {
    let can = Tracer::is_permitted();
    if !can {
        let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!must, "this needs the right to trace processes");
        eprintln!("NOT TESTED: this needs the right to trace processes");
    }
    can
}

/// A small world whose syncs can be killed at a write.
fn traced(state: &str) -> Option<Trial> {
    if !can_trace() {
        return None;
    }
    let mut trial = Trial::new(state);
    let program = fragile(&trial.world);
    trial.world.run_as_child(program);
    trial.change(40);
    Some(trial)
}

/// A small table of four people, and a destination that is off while syncs are killed.
#[test]
fn a_withdrawal_that_a_killed_sync_could_not_tell_is_told() {
    if !can_trace() {
        return;
    }
    let rows = "insert into people values (1, 'a', true, true), (2, 'b', true, false), (3, 'c', false, true)";
    let mut world = World::simple(&format!("{PEOPLE}; {rows}"), Model::new());
    let program = fragile(&world);
    world.run_as_child(program);
    let stats = |enabled: bool| {
        move |folder: &Folder, config: Config| {
            config.file(folder, "ads", "categories = [\"Ads\"]").file(
                folder,
                "stats",
                format!("categories = [\"Stats\"]\nenabled = {enabled}"),
            )
        }
    };
    for number in (1..).step_by(2) {
        world.sql("update people set stats = id <> 2");
        assert_eq!(world.run("")["state"], "done");
        world.finish_with(stats(false));
        world.take("stats");
        world.sql("update people set stats = false");
        let at = world.folder.write("kill-at", format!("{number}\n"));
        let record = world.run("");
        fs::remove_file(at).unwrap();
        world.finish_with(stats(true));
        assert_eq!(world.run("")["state"], "done");
        assert_eq!(world.took("stats"), "-1 -3", "write {number}");
        if record["state"] == "done" {
            assert!(number > 8, "there are more writes than {number}");
            return;
        }
    }
}

impl Trial {
    /// A sync that is killed at its write of this number; whether there was one.
    fn killed_at(&mut self, number: usize) -> bool {
        let at = self.world.folder.write("kill-at", format!("{number}\n"));
        let record = self.world.run("");
        fs::remove_file(at).unwrap();
        if record["state"] == "done" {
            println!("{} writes, {} events came twice", number - 1, self.repeated());
            assert!(number > 8, "there are more writes than {number}");
            return false;
        }
        assert!(record["error"].as_str().unwrap().contains("SIGKILL"), "write {number}: {record}");
        true
    }
}

/// Every write of a small sync with changes of all kinds. `meanwhile` is done before the sync that
/// completes it.
fn at_every_write(state: &str, meanwhile: impl Fn(&mut Trial, Vec<Row>)) {
    let Some(mut trial) = traced(state) else { return };
    trial.complete("the first sync");
    for number in 1.. {
        let before = trial.table.clone();
        trial.change(40);
        if !trial.killed_at(number) {
            return;
        }
        meanwhile(&mut trial, before);
        trial.complete(&format!("write {number}"));
    }
}

#[test]
fn a_sync_that_is_killed_at_any_write_is_completed_by_the_next_one() {
    at_every_write("local", |_, _| {});
}

#[test]
fn one_with_its_state_in_the_warehouse_is_completed_by_the_next_one() {
    at_every_write("warehouse", |_, _| {});
}

/// What was sent and not noted is known to have been sent.
#[test]
fn rows_that_become_what_they_were_after_a_crash_are_so_everywhere() {
    at_every_write("local", as_before);
}

/// The database would say that they are as they were.
#[test]
fn rows_that_become_what_they_are_in_the_warehouse_are_so_everywhere() {
    at_every_write("warehouse", as_before);
}

fn as_before(trial: &mut Trial, before: Vec<Row>) {
    trial.table = before;
    write(&trial.world, &trial.table);
}

#[test]
fn rows_that_change_again_after_a_crash_are_right_everywhere() {
    at_every_write("local", |trial, _| trial.change(40));
}

/// The second crash must not forget what the first one left.
#[test]
fn rows_that_become_what_they_were_after_two_crashes_are_so_everywhere() {
    at_every_write("local", |trial, before| {
        let between = std::mem::replace(&mut trial.table, before.clone());
        for table in [before, between] {
            let number = trial.rng.usize(20..60);
            trial.table = table;
            write(&trial.world, &trial.table);
            trial.killed_at(number);
        }
        trial.change(40);
    });
}

/// Whom a sync could not tell, because it was off, the next one has to, whether or not that one ended.
#[test]
fn a_destination_that_was_off_during_a_crash_is_told_of_withdrawals_when_it_is_on_again() {
    let Some(mut trial) = traced("local") else { return };
    for number in 1.. {
        trial.change(40);
        trial.complete(&format!("before write {number}"));
        let rules = trial.rules.clone();
        trial.world.finish_with(move |folder, config| {
            let config = config.categories(&["Gone"]);
            rules.iter().fold(config, |config, rule| match rule.name.as_str() {
                "stats" => {
                    config.file(folder, "stats", "categories = [\"Stats\"]\nenabled = false")
                }
                _ => rule.add_to(folder, config),
            })
        });
        for row in trial.table.iter_mut().step_by(2) {
            row.grants[1] = Some(false);
        }
        write(&trial.world, &trial.table);
        if !trial.killed_at(number) {
            return;
        }
        let rules = trial.rules.clone();
        trial.world.finish_with(move |folder, config| {
            let config = config.categories(&["Gone"]);
            rules.iter().fold(config, |config, rule| rule.add_to(folder, config))
        });
        trial.complete(&format!("write {number}"));
    }
}

#[test]
fn a_first_sync_that_is_killed_at_any_write_is_completed_by_the_next_one() {
    let Some(mut trial) = traced("local") else { return };
    for number in 1.. {
        // As if there had never been one.
        let state = trial.world.folder.path("state/warehouse/people");
        if state.exists() {
            fs::remove_dir_all(state).unwrap();
        }
        if !trial.killed_at(number) {
            return;
        }
        trial.complete(&format!("write {number}"));
    }
}
