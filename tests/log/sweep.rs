//! One life of a log, from the first start to the last, in which every single call of the file system
//! fails once, in every way that calls can fail.

use consentd::log::{LogError, SyncMode};

use crate::memory::{Crash, Fault, Memory, Op};
use crate::world::{World, identity, options};

const SYNCS: [SyncMode; 3] = [SyncMode::Commit, SyncMode::Interval, SyncMode::Off];
const CRASHES: [Crash; 3] = [Crash::Process, Crash::LoseAll, Crash::Any];

/// Everything that a log can do, over several segments.
fn life(world: &mut World) -> Result<(), LogError> {
    world.open()?;
    for round in 0..4_u8 {
        for user in 0..3 {
            world.append(&[user, round, user], 0b1011 << round, 40 * usize::from(round))?;
            world.commit()?;
        }
        world.sync()?;
        world.deliver(usize::from(round), 2)?;
        world.save()?;
        world.leave()?;
        world.release()?;
    }
    world.erase(1)?;
    world.configure(vec![identity(0, 0), identity(1, 9), identity(2, 2)])?;
    world.append(&[1, 2], 0b111, 10)?;
    world.roll()?;
    world.commit()?;
    world.rewrite()?;
    for place in 0..3 {
        world.deliver(place, 100)?;
    }
    world.save()?;
    world.append(&[3], 0b111, 10)?;
    world.commit()?;
    world.release()?;
    world.sync()
}

/// Lives until the fault, starts again after it, and lives once more on what is left.
fn live_through(world: &mut World, crash: Crash, seed: u64) -> Result<(), LogError> {
    let lived = life(world);
    world.crash(crash, seed);
    world.open().expect("a start after the fault succeeds");
    life_goes_on(world);
    world.settle();
    lived
}

fn life_goes_on(world: &mut World) {
    world.append(&[0, 1], 0xff, 5).unwrap();
    world.commit().unwrap();
    world.sync().unwrap();
    world.save().unwrap();
    world.release().unwrap();
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    for sync in SYNCS {
        for crash in CRASHES {
            let mut nth = 1;
            loop {
                let mut world = World::new(options(700, sync));
                world.disk.fail(None, nth, Fault::PowerCut);
                let lived = live_through(&mut world, crash, nth);
                if lived.is_ok() {
                    break;
                }
                nth += 1;
            }
            assert!(nth > 150, "the life is long enough to mean something: {nth} calls");
        }
    }
}

/// Starts that are cut off themselves, at every call, after a life that was cut off.
#[test]
fn a_power_cut_while_starting_loses_nothing_either() {
    for crash in [Crash::LoseAll, Crash::Any] {
        for first in (1..150).step_by(7) {
            let mut nth = 1;
            loop {
                let mut world = World::new(options(700, SyncMode::Commit));
                world.disk.fail(None, first, Fault::PowerCut);
                assert!(life(&mut world).is_err());
                world.crash(crash, first);
                world.disk.fail(None, nth, Fault::PowerCut);
                let started = world.open().is_ok() && !world.disk.is_dead();
                world.crash(crash, first + nth);
                world.open().unwrap();
                life_goes_on(&mut world);
                world.settle();
                if started {
                    break;
                }
                nth += 1;
            }
            assert!(nth > 8);
        }
    }
}

#[test]
fn any_call_that_fails_leaves_what_was_acknowledged() {
    for fault in [Fault::Io, Fault::NoSpace] {
        for op in Op::ALL {
            let mut struck = 0;
            for nth in 1.. {
                // The process ends with the error and starts again; then the power is cut, too.
                let mut world = World::new(options(700, SYNCS[nth as usize % 3]));
                world.disk.fail(Some(op), nth, fault);
                let lived = life(&mut world);
                if !world.disk.heal() {
                    lived.unwrap();
                    break;
                }
                struck += 1;
                if let Err(error) = &lived {
                    let text = error.to_string();
                    assert!(text.starts_with("cannot ") && text.contains("/state"), "{text}");
                }
                world.crash(CRASHES[nth as usize % 3], nth);
                world.open().unwrap();
                life_goes_on(&mut world);
                world.settle();
            }
            assert!(struck > 0 || op == Op::Free, "{op:?} was never called");
        }
    }
}

#[test]
fn interrupted_and_short_calls_are_no_errors() {
    for fault in [Fault::Interrupted, Fault::Short] {
        for op in Op::ALL {
            for nth in 1.. {
                let mut world = World::new(options(700, SyncMode::Commit));
                world.disk.fail(Some(op), nth, fault);
                life(&mut world).unwrap();
                if !world.disk.heal() {
                    break;
                }
                world.settle();
            }
        }
    }
}

/// The one error that a log survives: no space for another segment, before anything is in it.
#[test]
fn no_space_for_a_segment_refuses_and_goes_on() {
    let mut refused = 0;
    for op in [Op::Open, Op::Write, Op::Sync, Op::SyncDir] {
        let mut world = World::new(options(300, SyncMode::Commit));
        world.open().unwrap();
        world.append(&[0], 0xff, 400).unwrap();
        world.commit().unwrap();
        world.append(&[1], 0xff, 400).unwrap();
        world.disk.fail(Some(op), 1, Fault::NoSpace);
        world.commit().unwrap_or_else(|error| panic!("{op:?} must not poison: {error}"));
        assert!(world.disk.heal());
        assert_eq!(world.refused, 1, "{op:?}");
        refused += world.refused;
        world.append(&[2], 0xff, 400).unwrap();
        world.commit().unwrap();
        world.settle();
        world.crash(Crash::LoseAll, 0);
        world.open().unwrap();
        world.settle();
    }
    assert_eq!(refused, 4);
}

#[test]
fn space_for_a_frame_is_reserved_before_it_is_begun() {
    let mut world = World::new(options(100_000, SyncMode::Commit));
    world.open().unwrap();
    // Not for a step, but for this frame.
    world.disk.set_reservable(Some(2000));
    world.append(&[0], 0xff, 400).unwrap();
    world.commit().unwrap();
    assert_eq!(world.refused, 0);
    world.append(&[1], 0xff, 4000).unwrap();
    world.commit().unwrap();
    assert_eq!(world.refused, 1);
    world.disk.set_reservable(None);
    world.append(&[2], 0xff, 4000).unwrap();
    world.commit().unwrap();
    assert_eq!(world.refused, 1);
    world.settle();
    world.crash(Crash::LoseAll, 0);
    world.open().unwrap();
    world.settle();
}

/// A sync that failed is not tried again: the kernel would say yes to a second one.
#[test]
fn a_failed_sync_is_the_end() {
    for sync in SYNCS {
        let mut world = World::new(options(100_000, sync));
        world.open().unwrap();
        world.append(&[0], 0xff, 0).unwrap();
        world.commit().unwrap();
        world.append(&[1], 0xff, 0).unwrap();
        world.disk.fail(Some(Op::Sync), 1, Fault::Io);
        let failed = world.commit().and_then(|()| world.sync()).unwrap_err();
        assert!(failed.to_string().contains("cannot sync"), "{failed}");
        let then = world.sync().unwrap_err();
        assert!(then.to_string().contains("after an earlier error: cannot sync"), "{then}");
        world.crash(Crash::LoseAll, 0);
        world.open().unwrap();
        world.settle();
    }
}

#[test]
fn faults_of_the_disk_model_are_real() {
    // Without a sync nothing is left; the tests above would pass with a disk that never loses.
    let disk = Memory::new();
    let mut world = World::new(options(100_000, SyncMode::Off));
    world.disk = disk.clone();
    world.open().unwrap();
    world.append(&[0], 0xff, 1000).unwrap();
    world.commit().unwrap();
    let newest =
        disk.paths().into_iter().find(|path| path.extension().is_some_and(|e| e == "segment"));
    let newest = newest.unwrap();
    assert!(disk.content(&newest).len() > 1000);
    world.crash(Crash::LoseAll, 0);
    assert_eq!(disk.content(&newest).len(), 128, "only the header was synced");
}
