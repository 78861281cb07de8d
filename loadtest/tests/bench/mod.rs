//! A moment of load, the same for every test.

use loadtest::scenario::{Amount, Bench};

pub(crate) fn bench() -> Bench {
    Bench::new(Amount {
        seed: 1,
        templates: 1000,
        events: 5000,
        rate: 5000,
        paced_seconds: 1,
        rounds: 1,
        relay: env!("CARGO_BIN_EXE_loadtest").into(),
    })
}
