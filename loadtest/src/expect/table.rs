//! What must become of every copy of every template, worked out before the load starts.

use crate::expect::Reading;
use crate::plan::Plan;

/// For each template of the corpus the set of destinations that its copies must reach.
///
/// The sender goes through the templates in turn, so event number `n` is a copy of template
/// `n % templates`; all counts follow from the number of events that were sent.
#[derive(Debug)]
pub struct Expectations {
    templates: usize,
    destinations: usize,
    words_per_template: usize,
    reached: Vec<u64>,
    rejected: Vec<bool>,
}

impl Expectations {
    /// By the plan's consent rules.
    pub fn by_consent(lines: &[Vec<u8>], plan: &Plan) -> Self {
        let mut table = Self::nowhere(lines.len(), plan.rules.len());
        for (template, line) in lines.iter().enumerate() {
            let Some(reading) = Reading::of(line) else {
                table.rejected[template] = true;
                continue;
            };
            let granted = reading.granted(plan);
            for (destination, rule) in plan.rules.iter().enumerate() {
                if reading.reaches(rule, &granted) {
                    table.add(template, destination);
                }
            }
        }
        table
    }

    /// What a relay does: every line everywhere, malformed or not.
    pub fn everywhere(templates: usize, destinations: usize) -> Self {
        let mut table = Self::nowhere(templates, destinations);
        for template in 0..templates {
            (0..destinations).for_each(|destination| table.add(template, destination));
        }
        table
    }

    fn nowhere(templates: usize, destinations: usize) -> Self {
        let words_per_template = destinations.div_ceil(64);
        Self {
            templates,
            destinations,
            words_per_template,
            reached: vec![0; templates * words_per_template],
            rejected: vec![false; templates],
        }
    }

    fn add(&mut self, template: usize, destination: usize) {
        let word = template * self.words_per_template + destination / 64;
        self.reached[word] |= 1 << (destination % 64);
    }

    /// How many destinations there are.
    pub fn destinations(&self) -> usize {
        self.destinations
    }

    /// Which template event number `sequence` is a copy of.
    pub fn template_of(&self, sequence: u64) -> usize {
        (sequence % self.templates as u64) as usize
    }

    /// Must a copy of this template reach the destination?
    pub fn reaches(&self, template: usize, destination: usize) -> bool {
        let word = template * self.words_per_template + destination / 64;
        self.reached[word] >> (destination % 64) & 1 == 1
    }

    /// How many of the first `sent` events each destination must receive.
    pub fn deliveries(&self, sent: u64) -> Vec<u64> {
        let mut deliveries = vec![0; self.destinations];
        for template in 0..self.templates {
            let copies = self.copies(template, sent);
            for (destination, count) in deliveries.iter_mut().enumerate() {
                if self.reaches(template, destination) {
                    *count += copies;
                }
            }
        }
        deliveries
    }

    /// How many of the first `sent` events must be rejected.
    pub fn rejections(&self, sent: u64) -> u64 {
        let rejected = (0..self.templates).filter(|template| self.rejected[*template]);
        rejected.map(|template| self.copies(template, sent)).sum()
    }

    /// Must event number `sequence` be rejected?
    pub fn is_rejected(&self, sequence: u64) -> bool {
        self.rejected[self.template_of(sequence)]
    }

    /// Destinations that an event reaches, on average over the templates.
    pub fn fan_out(&self) -> f64 {
        let reached: u32 = self.reached.iter().map(|word| word.count_ones()).sum();
        f64::from(reached) / self.templates.max(1) as f64
    }

    fn copies(&self, template: usize, sent: u64) -> u64 {
        let (rounds, rest) = (sent / self.templates as u64, sent % self.templates as u64);
        rounds + u64::from((template as u64) < rest)
    }
}
