//! The decision: for one event and one table, which destinations it goes to, and why not to the
//! others. Pure, and the same code for live traffic, for what is judged again before delivery, and
//! for `consentd explain`.
//!
//! Owns the reading of the consent object, the order of the tests, and the [`Permit`]: the proof of
//! a decision that delivery asks for and that only this module can make. It moves no bytes.
//!
//! What always holds: where there is doubt about consent, the answer is refusal.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod decide;
mod judge;
mod memo;
mod preferences;

pub use decide::{Decision, Nature, Outcome, Permit, Recipients, Refusal};
pub use judge::{Address, Judge};
pub use memo::{Counted, Memo};
pub use preferences::ConsentState;
