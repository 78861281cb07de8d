//! Whether the workers live.

/// What their progress was when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    before: Vec<u64>,
}

impl Pulse {
    /// Whether every worker has moved since the last time. One that stands still is enough to be worth
    /// a restart: its connections stall.
    pub(super) fn is_felt(&mut self, progress: Vec<u64>) -> bool {
        let moved = |(now, before): (&u64, &u64)| now != before;
        let felt = progress.iter().zip(&self.before).all(moved);
        self.before = progress;
        felt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_that_stands_still_is_noticed_and_one_that_moves_again_too() {
        let mut pulse = Pulse::default();
        let looks =
            [([1, 1], true), ([2, 9], true), ([3, 9], false), ([4, 9], false), ([5, 1], true)];
        for (progress, felt) in looks {
            assert_eq!(pulse.is_felt(progress.into()), felt, "{progress:?}");
        }
    }
}
