//! The body of an HTTP request: a JSON array or lines, whichever its first byte says.

use super::array::ArrayCutter;
use super::lines::LineCutter;
use super::{Cut, Cutter, is_blank};

/// Cuts one body. All its lines are accounted for, so that they can be numbered.
#[derive(Debug)]
pub struct BodyCutter {
    form: Form,
    max_event_bytes: usize,
}

#[derive(Debug)]
enum Form {
    /// Nothing but white space so far: this many line ends, and the line being read.
    Unknown(u64, LineCutter),
    Lines(LineCutter),
    Array(Box<ArrayCutter>),
}

impl BodyCutter {
    /// A cutter for one body.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self { form: Form::Unknown(0, LineCutter::new(max_event_bytes)), max_event_bytes }
    }

    /// Decides on the form if `buffer` has a byte to decide by.
    fn recognise(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>) {
        let Form::Unknown(lines, cutter) = &mut self.form else {
            return;
        };
        let blanks = buffer.iter().take_while(|byte| is_blank(**byte)).count();
        match buffer.get(blanks) {
            Some(b'[') => {
                buffer.drain(..=blanks);
                self.form = Form::Array(Box::new(ArrayCutter::new(self.max_event_bytes)));
            }
            Some(_) => {
                if *lines > 0 {
                    cuts.push(Cut::Blank { lines: *lines });
                }
                let cutter = std::mem::replace(cutter, LineCutter::new(0));
                self.form = Form::Lines(cutter);
            }
            // The blank lines are counted here, so that nothing is cut before the form is known.
            None => {
                let Some(last) = memchr::memrchr(b'\n', buffer) else {
                    return;
                };
                *lines += memchr::memchr_iter(b'\n', buffer).count() as u64;
                *cutter = LineCutter::new(self.max_event_bytes);
                buffer.drain(..=last);
            }
        }
    }

    fn cutter(&mut self) -> &mut dyn Cutter {
        match &mut self.form {
            Form::Unknown(_, lines) | Form::Lines(lines) => lines,
            Form::Array(array) => array.as_mut(),
        }
    }
}

impl Cutter for BodyCutter {
    fn push(&mut self, buffer: &mut Vec<u8>, cuts: &mut Vec<Cut>) {
        self.recognise(buffer, cuts);
        self.cutter().push(buffer, cuts);
    }

    fn finish(&mut self, cuts: &mut Vec<Cut>) {
        if !matches!(self.form, Form::Unknown(..)) {
            self.cutter().finish(cuts);
        }
    }

    fn tail_bytes(&self) -> usize {
        match &self.form {
            Form::Unknown(_, lines) | Form::Lines(lines) => lines.tail_bytes(),
            Form::Array(array) => array.tail_bytes(),
        }
    }
}
