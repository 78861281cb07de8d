//! Models.
use std::time::Duration;

/// `[models.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name: letters, digits, `-` and `_`, so that it can be that of a file.
    pub name: String,
    /// When syncs start.
    pub schedule: Schedule,
}

/// `every`, `cron` or neither
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Somebody starts every sync.
    ByHand,
    /// So often.
    Every(Duration),
    /// Five fields: minute, hour, day of the month, month, day of the week.
    Cron(String),
}
