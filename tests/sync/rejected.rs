//! Rows that a destination does not take.

use std::thread::sleep;
use std::time::Duration;

use crate::harness::{Config, Folder, HttpSink, Reply, request, wait_for};
use crate::world::{Model, PEOPLE, World, samples, short};

/// Takes no batch that holds one of these rows.
fn refuse(sink: &HttpSink, ids: &'static [u8]) {
    sink.answer(move |lines| {
        let is_bad =
            |line: &String| ids.iter().any(|id| line.contains(&format!("\"userId\":{id},")));
        Reply::now(if lines.iter().any(is_bad) { 400 } else { 200 })
    });
}

/// Three rows that go to a file `ads` and to a receiver that answers as it is told.
fn world(model: Model) -> (World, HttpSink) {
    let sink = HttpSink::start(|_| Reply::now(200));
    let url = sink.url();
    let table = format!(
        "{PEOPLE}; insert into people values (1, 'a', true, true), (2, 'b', true, true), (3, 'c', true, true)"
    );
    let world = World::new(&table, model, move |folder, config| {
        config.file(folder, "ads", "categories = [\"Ads\"]").http(
            "strict",
            &url,
            "categories = [\"Stats\"]",
        )
    });
    (world, sink)
}

#[test]
fn a_rejected_row_is_sent_again_until_it_is_taken() {
    let (mut world, sink) = world(Model::new());
    refuse(&sink, &[2]);
    world.sync("rows=3 added=3 sent=3");
    assert_eq!((short(&sink.take()), world.took("ads")), ("1 3".to_owned(), "1 2 3".to_owned()));
    let record = world.sync("rows=3 unchanged=3 failed=1 sent=1");
    assert!(samples(&record).contains("id 2: rejected by strict"), "{record}");
    refuse(&sink, &[]);
    world.sync("rows=3 unchanged=3 failed=1 sent=1");
    // Only to whom did not take it.
    assert_eq!((short(&sink.take()), world.took("ads")), ("2".to_owned(), String::new()));
    world.sync("rows=3 unchanged=3");
    assert_eq!(short(&sink.take()), "");
}

#[test]
fn a_rejected_row_is_given_up_after_so_many_syncs() {
    let (world, sink) = world(Model::new().set("retry_syncs", 2));
    refuse(&sink, &[2]);
    world.sync("rows=3 added=3 sent=3");
    world.sync("rows=3 unchanged=3 failed=1 sent=1");
    world.sync("rows=3 unchanged=3 failed=1 sent=1");
    // The last rejection is told, and that is all.
    world.sync("rows=3 unchanged=3 failed=1");
    let attempts = sink.attempts();
    world.sync("rows=3 unchanged=3");
    refuse(&sink, &[]);
    world.sync("rows=3 unchanged=3");
    assert_eq!(sink.attempts(), attempts);
    // A newer version begins anew.
    refuse(&sink, &[2]);
    world.sql("update people set plan = 'z' where id = 2");
    world.sync("rows=3 updated=1 unchanged=2 sent=1");
    refuse(&sink, &[]);
    sink.take();
    world.sync("rows=3 unchanged=3 failed=1 sent=1");
    assert_eq!(short(&sink.take()), "2");
}

#[test]
fn no_retries_means_none() {
    let (world, sink) = world(Model::new().set("retry_syncs", 0));
    refuse(&sink, &[2]);
    world.sync("rows=3 added=3 sent=3");
    world.sync("rows=3 unchanged=3 failed=1");
    world.sync("rows=3 unchanged=3");
}

#[test]
fn a_rejected_row_is_sent_again_as_it_is_now() {
    let (mut world, sink) = world(Model::new());
    refuse(&sink, &[1, 2, 3]);
    world.sync("rows=3 added=3 sent=3");
    refuse(&sink, &[]);
    world.take("ads");
    world.sql(
        "update people set plan = 'z' where id = 1; update people set stats = false where id = 2",
    );
    world.sync("rows=3 updated=2 unchanged=1 refused=1 failed=3 sent=3");
    let taken = sink.take();
    // 2 has no consent any more, and was never there.
    assert_eq!(short(&taken), "1 3");
    assert!(taken.iter().any(|line| line.contains("\"plan\":\"z\"")), "{taken:?}");
    assert_eq!(world.took("ads"), "1 2");
    world.sync("rows=3 unchanged=3");
}

/// Nobody is told of a row that they did not take, however often it was offered.
#[test]
fn a_row_that_was_never_taken_goes_without_a_word() {
    const RETRY: &str = "select 1";
    const UPDATE: &str = "update people set plan = plan || 'x' where id in (2, 3)";
    for offers in
        [&[][..], &[RETRY], &[RETRY, RETRY], &[UPDATE], &[RETRY, UPDATE], &[UPDATE, RETRY]]
    {
        let (world, sink) = world(Model::new());
        refuse(&sink, &[2, 3]);
        world.sync("rows=3 added=3 sent=3");
        for change in offers {
            world.sql(change);
            let record = world.run("");
            assert_eq!((&record["failed"], &record["sent"]), (&2.into(), &2.into()), "{record}");
        }
        refuse(&sink, &[]);
        world.sql("delete from people where id = 2; update people set stats = false where id = 3");
        let record = world.run("");
        assert_eq!((&record["deleted"], &record["failed"]), (&1.into(), &2.into()), "{record}");
        assert_eq!(short(&sink.take()), "1", "{offers:?}");
    }
}

#[test]
fn a_row_that_was_taken_before_it_was_rejected_is_deleted() {
    let (world, sink) = world(Model::new());
    world.sync("rows=3 added=3 sent=3");
    refuse(&sink, &[2]);
    world.sql("update people set plan = 'z' where id = 2");
    world.sync("rows=3 updated=1 unchanged=2 sent=1");
    refuse(&sink, &[]);
    sink.take();
    world.sql("delete from people where id = 2");
    world.sync("rows=2 deleted=1 unchanged=2 failed=1 sent=1");
    assert_eq!(short(&sink.take()), "-2");
}

/// What the daemon itself does not take is tried again, too.
#[test]
fn a_row_that_is_no_event_is_reported_and_tried_again() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let (mut world, _sink) = world(Model::new());
    world.sql(&format!(
        "alter table people add column more json; update people set more = '{}' where id = 2",
        deep(80)
    ));
    let event = "{ type = \"identify\", userId = \"$id\", traits = { plan = \"$plan\", more = \"$more\" } }";
    world.become_model(Model::new().set("event", event));
    let record = world.sync("rows=3 added=3 failed=1 sent=2");
    assert!(samples(&record).contains("id 2: rejected as too_deep"), "{record}");
    world.sync("rows=3 unchanged=3 failed=1");
    world.take("ads");
    world.sql("update people set more = '1' where id = 2");
    world.sync("rows=3 updated=1 unchanged=2 sent=1");
    assert_eq!(world.took("ads"), "2");
}

/// Nothing that the daemon does not take keeps a consent alive.
#[test]
fn a_withdrawal_in_a_row_that_is_no_event_is_told_once() {
    let (mut world, _sink) = world(Model::new());
    world.sql("alter table people add column more json");
    let event = "{ type = \"identify\", userId = \"$id\", traits = { plan = \"$plan\", more = \"$more\" } }";
    world.become_model(Model::new().set("event", event));
    world.sync("rows=3 added=3 sent=3");
    world.take("ads");
    let deep = format!("{}1{}", "[".repeat(80), "]".repeat(80));
    world.sql(&format!("update people set more = '{deep}', ads = false where id = 2"));
    world.sync("rows=3 updated=1 unchanged=2 withdrawn=1 failed=1 sent=1");
    assert_eq!(world.took("ads"), "-2");
    // It is tried again, and not told again.
    world.sync("rows=3 unchanged=3 failed=1");
    world.sql("update people set more = null where id = 2");
    world.sync("rows=3 updated=1 unchanged=2 refused=1 sent=1");
    assert_eq!(world.took("ads"), "");
}

/// Who could not be reached was not tried.
#[test]
fn a_rejected_row_waits_for_a_destination_that_is_switched_off() {
    let (mut world, sink) = world(Model::new().set("retry_syncs", 1));
    refuse(&sink, &[2]);
    world.sync("rows=3 added=3 sent=3");
    let url = sink.url();
    let switch = |enabled: bool| {
        let url = url.clone();
        move |folder: &Folder, config: Config| {
            let rules = format!("categories = [\"Stats\"]\nenabled = {enabled}");
            config.file(folder, "ads", "categories = [\"Ads\"]").http("strict", &url, &rules)
        }
    };
    world.finish_with(switch(false));
    world.sync("rows=3 unchanged=3 failed=1");
    world.sync("rows=3 unchanged=3");
    refuse(&sink, &[]);
    sink.take();
    world.finish_with(switch(true));
    world.sync("rows=3 unchanged=3 sent=1");
    assert_eq!((short(&sink.take()), world.took("ads")), ("2".to_owned(), "1 2 3".to_owned()));
    world.sync("rows=3 unchanged=3");
}

/// A sync to its end, whatever has arrived of it.
fn sync_alone(world: &World) {
    let sync = world.begin("");
    wait_for("the sync has ended", || {
        let status = world.status();
        (status["running"].is_null() && status["history"][0]["sync"] == sync).then_some(())
    });
}

/// However many requests there may be at a time: whoever got it last would keep it.
#[test]
fn a_deletion_does_not_overtake_the_row() {
    let sink = HttpSink::start(|lines| {
        let is_row = |line: &String| line.contains("identify");
        Reply::now(if lines.iter().any(is_row) { 503 } else { 200 })
    });
    let url = sink.url();
    let table = format!("{PEOPLE}; insert into people values (1, 'a', true, true)");
    let world = World::new(&table, Model::new(), move |_, config| {
        let quick =
            "batch = { max_wait = \"1ms\" }\nretry = { initial = \"20ms\", max = \"50ms\" }";
        let keys = format!("type = \"http\"\nurl = \"{url}\"\n{quick}\nconcurrency = 4");
        config.destination("strict", format!("{keys}\ncategories = [\"Stats\"]"))
    });
    sync_alone(&world);
    world.sql("update people set stats = false");
    sync_alone(&world);
    world.sql("update people set stats = true");
    sync_alone(&world);
    sleep(Duration::from_millis(500));
    sink.answer(|_| Reply::now(200));
    world.arrive();
    let kinds: Vec<bool> = sink.take().iter().map(|line| line.contains("identify")).collect();
    assert_eq!(kinds, [true, false, true]);
}

/// A version that nobody was sent does not hide that the one before it was not taken.
#[test]
fn a_row_that_is_rejected_after_it_has_changed_was_never_there() {
    let (world, sink) = world(Model::new().set("send", "[\"added\", \"deleted\"]"));
    sink.answer(|_| Reply::now(503));
    sync_alone(&world);
    world.sql("update people set plan = 'z' where id = 2");
    sync_alone(&world);
    refuse(&sink, &[2]);
    world.arrive();
    world.sql("delete from people where id = 2");
    refuse(&sink, &[]);
    world.run("");
    assert_eq!(short(&sink.take()), "1 3");
}

/// `strict`, with these rules more, and the file.
fn strict(url: String, rules: &'static str) -> impl Fn(&Folder, Config) -> Config {
    move |folder, config| {
        let config = config.file(folder, "ads", "categories = [\"Ads\"]");
        config.http("strict", &url, format!("categories = [\"Stats\"]\n{rules}"))
    }
}

/// Nobody sends it again by himself: the state has let go of the row.
#[test]
fn a_deletion_that_is_refused_when_it_is_to_leave_is_kept() {
    for (rules, reason, left, from_log) in [
        ("enabled = false", "disabled", 0, false),
        ("enabled = false", "disabled", 0, true),
        ("types = [\"identify\"]", "filtered", 1, false),
        ("types = [\"identify\"]", "filtered", 1, true),
    ] {
        let (mut world, sink) = world(Model::new());
        let url = sink.url();
        world.sync("rows=3 added=3 sent=3");
        sink.take();
        sink.answer(|_| Reply::now(503));
        world.sql("update people set plan = 'z' where id = 1; delete from people where id = 2");
        sync_alone(&world);
        if from_log {
            world.write_config(Model::new(), strict(url.clone(), rules));
            assert_eq!(world.stop().code, Some(0));
            world.start();
        } else {
            world.finish_with(strict(url.clone(), rules));
        }
        let metrics = world.daemon().metrics_where("it is dropped", |metrics| {
            metrics.dropped("strict", reason) == 2 - left && metrics.pending("strict") == left
        });
        let kept = metrics.sum("consentd_dead_letters_total", &[("reason", reason)]);
        assert_eq!(kept, 1, "{rules}");
        sink.answer(|_| Reply::now(200));
        world.finish_with(strict(url, ""));
        world.arrive();
        sink.take();
        let answer = request(world.daemon().admin(), "POST", "/dead-letters/replay", "", b"{}");
        assert_eq!(answer.unwrap().json()["replayed"], 1, "{rules}");
        world.arrive();
        assert_eq!(short(&sink.take()), "-2", "{rules}");
    }
}
