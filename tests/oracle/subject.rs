//! TEMPORARY
use super::decide::{self, Outcome};
use super::model::Model;
pub(crate) struct Subject;
impl Subject {
    pub(crate) fn compile(_: &Model) -> Self {
        Self
    }
    pub(crate) fn decide(&mut self, line: &[u8], source: Option<&str>, model: &Model) -> Outcome {
        decide::decide(line, source, model)
    }
}
