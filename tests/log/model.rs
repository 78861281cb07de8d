//! Any sequence of uses, crashes and restarts: what was acknowledged is there, in order, unaltered;
//! nothing else is; nobody gets what was decided for another.

use consentd::log::SyncMode;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::memory::Crash;
use crate::memory::Fault;
use crate::world::{World, identity, options};

#[derive(Clone, Debug)]
enum Step {
    Append {
        users: Vec<u8>,
        mask: u8,
        padding: usize,
    },
    Commit,
    Sync,
    Roll,
    Leave,
    Deliver {
        place: usize,
        blocks: usize,
    },
    Save,
    Release,
    Erase(u8),
    Rewrite,
    Configure(Vec<(u8, u8)>),
    Crash(Crash, u64),
    /// The power goes at one of the next calls.
    CutSoon(u64),
}

fn crashes() -> impl Strategy<Value = Crash> {
    prop_oneof![1 => Just(Crash::Process), 1 => Just(Crash::LoseAll), 2 => Just(Crash::Any)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (vec(0..4_u8, 1..5), any::<u8>(), 0..300_usize)
        .prop_map(|(users, mask, padding)| Step::Append { users, mask, padding });
    let config = vec((0..4_u8, 0..3_u8), 0..4).prop_map(|mut names| {
        names.sort_unstable();
        names.dedup_by_key(|(name, _)| *name);
        Step::Configure(names)
    });
    let step = prop_oneof![
        12 => append,
        12 => Just(Step::Commit),
        2 => Just(Step::Sync),
        1 => Just(Step::Roll),
        1 => Just(Step::Leave),
        8 => (0..4_usize, 1..6_usize).prop_map(|(place, blocks)| Step::Deliver { place, blocks }),
        5 => Just(Step::Save),
        5 => Just(Step::Release),
        1 => (0..4_u8).prop_map(Step::Erase),
        1 => Just(Step::Rewrite),
        2 => config,
        2 => (crashes(), any::<u64>()).prop_map(|(crash, seed)| Step::Crash(crash, seed)),
        3 => (1..40_u64).prop_map(Step::CutSoon),
    ];
    vec(step, 1..80)
}

fn play(world: &mut World, steps: Vec<Step>, crash: Crash) {
    world.open().unwrap();
    let mut seed = 0;
    for step in steps {
        let done = match step {
            Step::Append { users, mask, padding } => world.append(&users, mask, padding),
            Step::Commit => world.commit(),
            Step::Sync => world.sync(),
            Step::Roll => world.roll(),
            Step::Leave => world.leave(),
            Step::Deliver { place, blocks } => world.deliver(place, blocks),
            Step::Save => world.save(),
            Step::Release => world.release(),
            Step::Erase(user) => world.erase(user),
            Step::Rewrite => world.rewrite(),
            Step::Configure(names) => world
                .configure(names.into_iter().map(|(n, address)| identity(n, address)).collect()),
            Step::CutSoon(calls) => {
                world.disk.fail(None, calls, Fault::PowerCut);
                Ok(())
            }
            Step::Crash(crash, seed) => {
                world.crash(crash, seed);
                world.open()
            }
        };
        // An error means that the power went; it may go again while the daemon starts.
        let mut failed = done.is_err();
        while failed {
            assert!(world.disk.is_dead(), "an error without a cause: {done:?}");
            seed += 1;
            world.crash(crash, seed);
            if seed % 3 == 0 {
                world.disk.fail(None, seed % 17 + 1, Fault::PowerCut);
            }
            failed = world.open().is_err();
        }
    }
    world.disk.heal();
    let done = world.commit();
    if done.is_err() || world.disk.is_dead() {
        world.crash(crash, 99);
    } else {
        world.crash(Crash::Process, 99);
    }
    world.open().unwrap();
    world.settle();
}

fn cases() -> u32 {
    std::env::var("CONSENTD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(5000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_events_outlive_everything(
        steps in steps(),
        segment_bytes in prop_oneof![Just(300_u32), Just(2000), Just(100_000)],
        sync in prop_oneof![3 => Just(SyncMode::Commit), 1 => Just(SyncMode::Interval), 1 => Just(SyncMode::Off)],
        crash in crashes(),
    ) {
        play(&mut World::new(options(segment_bytes, sync)), steps, crash);
    }
}
