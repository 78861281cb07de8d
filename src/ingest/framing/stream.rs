//! A TCP connection: octet-counted messages or lines, whichever its first byte says.

use super::counted::CountedCutter;
use super::lines::LineCutter;
use super::{Cut, Cutter};

/// Cuts one connection.
///
/// A digit from 1 to 9 begins a length; no event begins with one.
#[derive(Debug)]
pub struct StreamCutter {
    form: Form,
    max_event_bytes: usize,
}

#[derive(Debug)]
enum Form {
    /// Nothing but line ends so far.
    Unknown,
    Lines(LineCutter),
    Counted(CountedCutter),
}

impl StreamCutter {
    /// A cutter for one connection.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self { form: Form::Unknown, max_event_bytes }
    }

    /// Drops the line ends before the first event, however the reads split them.
    fn recognise(&mut self, buffer: &mut Vec<u8>) {
        let Some(at) = buffer.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
            return;
        };
        buffer.drain(..at);
        self.form = match buffer[0] {
            b'1'..=b'9' => Form::Counted(CountedCutter::new(self.max_event_bytes)),
            _ => Form::Lines(LineCutter::new(self.max_event_bytes)),
        };
    }
}

impl Cutter for StreamCutter {
    fn push(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>) {
        if let Form::Unknown = self.form {
            self.recognise(buffer);
        }
        match &mut self.form {
            Form::Unknown => {}
            Form::Lines(lines) => lines.push(buffer, cuts),
            Form::Counted(counted) => counted.push(buffer, cuts),
        }
    }

    fn finish(&mut self, cuts: &mut Vec<Cut>) {
        match &mut self.form {
            Form::Unknown => {}
            Form::Lines(lines) => lines.finish(cuts),
            Form::Counted(counted) => counted.finish(cuts),
        }
    }

    fn tail_bytes(&self) -> usize {
        match &self.form {
            Form::Unknown => 0,
            Form::Lines(lines) => lines.tail_bytes(),
            Form::Counted(counted) => counted.tail_bytes(),
        }
    }
}
