//! Writes the daemon's config for a plan.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::plan::{Plan, Rule};
use crate::sink::Output;

/// What a destination does whose buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WhenFull {
    /// Back-pressure to the senders.
    Block,
    /// The newest events are dropped and counted.
    #[value(name = "drop_newest")]
    DropNewest,
}

impl WhenFull {
    /// As the config spells it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropNewest => "drop_newest",
        }
    }
}

/// What the config says beside the plan. What is `None` stays at the daemon's default.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of the admin API.
    pub admin: SocketAddr,
    /// Of the source `tcp`.
    pub tcp: SocketAddr,
    /// Of the source `http`.
    pub http: SocketAddr,
    /// The daemon's folder.
    pub data_dir: PathBuf,
    /// Worker threads.
    pub workers: Option<usize>,
    /// Bound of all buffers.
    pub memory_max: Option<String>,
    /// Bound of one destination's.
    pub buffer: Option<String>,
    /// The longest that an event waits for its batch.
    pub max_wait: Option<String>,
    /// Of every destination.
    pub when_full: Option<WhenFull>,
    /// `log.sync`; without it the log is off.
    pub log: Option<String>,
    /// `log.window`.
    pub log_window: Option<String>,
    /// The longest wait before a delivery is tried again.
    pub retry_max: Option<String>,
}

/// The whole file: `outputs` are the addresses of the plan's destinations, in its order.
pub fn toml(plan: &Plan, outputs: &[Output], settings: &Settings) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_head(&mut text, plan, settings);
    for (rule, output) in plan.rules.iter().zip(outputs) {
        let _ = write_destination(&mut text, plan, rule, output, settings);
    }
    text
}

fn write_head(text: &mut String, plan: &Plan, settings: &Settings) -> std::fmt::Result {
    writeln!(text, "[daemon]")?;
    writeln!(text, "data_dir = {:?}", settings.data_dir)?;
    if let Some(workers) = settings.workers {
        writeln!(text, "workers = {workers}")?;
    }
    if let Some(memory_max) = &settings.memory_max {
        writeln!(text, "memory_max = {memory_max:?}")?;
    }
    writeln!(text, "shutdown_timeout = \"10s\"")?;
    match &settings.log {
        Some(sync) => {
            writeln!(text, "\n[log]\nsync = {sync:?}")?;
            if let Some(window) = &settings.log_window {
                writeln!(text, "window = {window:?}")?;
            }
        }
        None => writeln!(text, "\n[log]\nenabled = false")?,
    }
    writeln!(text, "\n[admin]\nlisten = \"{}\"", settings.admin)?;
    let missing = if plan.missing_allows { "allow" } else { "deny" };
    writeln!(text, "\n[consent]\nmissing = \"{missing}\"")?;
    for category in &plan.categories {
        writeln!(text, "\n[[categories]]\nid = \"{category}\"")?;
        writeln!(text, "name = \"{category}\"\nenabled = true")?;
    }
    writeln!(text, "\n[sources.tcp]\ntype = \"tcp\"\nlisten = \"{}\"", settings.tcp)?;
    writeln!(text, "\n[sources.http]\ntype = \"http\"\nlisten = \"{}\"", settings.http)
}

fn write_destination(
    text: &mut String,
    plan: &Plan,
    rule: &Rule,
    output: &Output,
    settings: &Settings,
) -> std::fmt::Result {
    writeln!(text, "\n[destinations.{}]", rule.name)?;
    match output {
        Output::Tcp(address) => writeln!(text, "type = \"tcp\"\naddress = \"{address}\"")?,
        Output::Http(address, path) => {
            writeln!(text, "type = \"http\"\nurl = \"http://{address}{path}\"")?;
            writeln!(text, "format = \"ndjson\"\ncompression = \"none\"")?;
        }
        Output::File(path) => writeln!(text, "type = \"file\"\npath = {path:?}")?,
        Output::Blackhole => writeln!(text, "type = \"blackhole\"")?,
    }
    let categories: Vec<&str> =
        rule.categories.iter().map(|index| plan.categories[*index].as_str()).collect();
    writeln!(text, "categories = {categories:?}")?;
    if !categories.is_empty() {
        writeln!(text, "match = \"{}\"", rule.mode.key())?;
    }
    if rule.integration != rule.name {
        writeln!(text, "integration = {:?}", rule.integration)?;
    }
    if !rule.types.is_empty() {
        writeln!(text, "types = {:?}", rule.types)?;
    }
    if rule.receives_preferences {
        writeln!(text, "receives_preferences = true")?;
    }
    // Nothing is batched for a blackhole, so it knows none of these.
    if *output != Output::Blackhole {
        write_delivery(text, settings)?;
    }
    Ok(())
}

fn write_delivery(text: &mut String, settings: &Settings) -> std::fmt::Result {
    if let Some(max_wait) = &settings.max_wait {
        writeln!(text, "batch = {{ max_wait = {max_wait:?} }}")?;
    }
    if let Some(buffer) = &settings.buffer {
        writeln!(text, "buffer = {buffer:?}")?;
    }
    if let Some(max) = &settings.retry_max {
        writeln!(text, "retry = {{ initial = \"20ms\", max = {max:?} }}")?;
    }
    if let Some(when_full) = settings.when_full {
        writeln!(text, "when_full = \"{}\"", when_full.key())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::{Corpus, Profile};

    #[test]
    fn every_destination_stands_in_the_config_with_its_address_and_rule() {
        let sample = Corpus::new(1, Profile::default()).lines(500);
        let plan = Plan::with_fan_out(8, 3.0, &sample);
        let address: SocketAddr = "127.0.0.1:9700".parse().unwrap();
        let settings = Settings {
            admin: address,
            tcp: address,
            http: address,
            data_dir: "/tmp/x".into(),
            workers: None,
            memory_max: None,
            buffer: Some("1MiB".into()),
            max_wait: Some("20ms".into()),
            when_full: Some(WhenFull::DropNewest),
            log: None,
            log_window: None,
            retry_max: None,
        };
        let mut outputs = vec![Output::Tcp(address); 6];
        outputs.push(Output::Http(address, "/6".into()));
        outputs.push(Output::File("/tmp/x/out".into()));

        let text = toml(&plan, &outputs, &settings);
        let config: toml::Table = text.parse().unwrap();
        let destinations = config["destinations"].as_table().unwrap();
        assert_eq!(destinations.len(), 8);
        let any = destinations["d005"].as_table().unwrap();
        assert_eq!(any["match"].as_str(), Some("any"));
        assert_eq!(any["categories"].as_array().unwrap().len(), 2);
        assert_eq!(any["integration"].as_str(), Some("Braze"));
        assert_eq!(destinations["d006"]["url"].as_str(), Some("http://127.0.0.1:9700/6"));
        assert_eq!(destinations["d007"]["path"].as_str(), Some("/tmp/x/out"));
        assert_eq!(config["consent"]["missing"].as_str(), Some("allow"));
        assert!(config["daemon"].get("workers").is_none());
    }
}
