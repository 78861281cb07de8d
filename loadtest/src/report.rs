//! The table for people; the JSON is the serialised outcome itself.

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::acknowledge::{AcknowledgeReport, Phase};
use crate::catch_up::CatchUpReport;
use crate::dead::DeadReport;
use crate::round::{Findings, Measured};
use crate::scenario::Comparison;
use crate::troubled::TroubledReport;

/// One row each for daemon, relay and their ratio.
pub fn table(comparisons: &[Comparison]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "scenario",
        "dest.",
        "reached",
        "",
        "events/s",
        "MB/s",
        "CPU s/M events",
        "events/CPU s",
        "RSS MiB",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
    ]);
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for comparison in comparisons {
        let subjects = [
            ("consentd", comparison.daemon.as_ref()),
            ("relay", Some(&comparison.relay)),
            ("ratio", comparison.ratio.as_ref()),
        ];
        for (name, measured) in subjects {
            if let Some(measured) = measured {
                table.add_row(row(comparison, name, measured));
            }
        }
    }
    table.to_string()
}

fn row(comparison: &Comparison, name: &str, measured: &Measured) -> Vec<Cell> {
    let (whole, fine) = if name == "ratio" { (2, 2) } else { (0, 2) };
    let scenario = serde_json::to_value(comparison.scenario).unwrap_or_default();
    let mut cells = vec![
        Cell::new(scenario.as_str().unwrap_or_default()),
        Cell::new(comparison.destinations),
        Cell::new(format!("{:.1}", comparison.fan_out)),
        Cell::new(name),
        Cell::new(format!("{:.whole$}", measured.events_per_second)),
        Cell::new(format!("{:.whole$}", measured.mb_per_second)),
        Cell::new(format!("{:.fine$}", measured.cpu_seconds_per_million_events)),
        Cell::new(format!("{:.whole$}", measured.events_per_cpu_second)),
        Cell::new(format!("{:.fine$}", measured.rss_peak_mib)),
    ];
    let latency = measured.latency_ms;
    let quantiles = latency
        .map_or([None; 3], |latency| [Some(latency.p50), Some(latency.p99), Some(latency.p999)]);
    cells.extend(quantiles.map(|quantile| match quantile {
        Some(quantile) => Cell::new(format!("{quantile:.fine$}")),
        None => Cell::new("-"),
    }));
    cells
}

/// What was found wrong, or that nothing was.
pub fn findings(what: &str, findings: &Findings) -> String {
    let Findings { violations, missing, duplicates, breaches, examples } = findings;
    let counts = match breaches.len() {
        0 => "the counts agree".to_owned(),
        count => format!("{count} BREACHES"),
    };
    let mut text = format!(
        "{what}: {violations} violations, {missing} missing, {duplicates} duplicates, {counts}"
    );
    for complaint in breaches.iter().take(10).chain(examples) {
        text.push_str("\n  ");
        text.push_str(complaint);
    }
    text
}

/// A dead destination's run in a few lines.
pub fn dead(report: &DeadReport) -> String {
    let highest = report.rss_mib.iter().copied().fold(0.0, f64::max);
    let healthy = report
        .healthy_events_per_second
        .map_or(String::new(), |healthy| format!("; {healthy:.0} events/s with all alive"));
    format!(
        "{} dead, {}: {} events in {} s ({:.0} events/s{healthy})\n\
         {} overflowed, {} pending, RSS at most {highest:.1} MiB, growth {:.1} MiB",
        report.dead,
        report.when_full,
        report.events,
        report.seconds,
        report.events_per_second,
        report.overflow,
        report.pending,
        report.rss_growth_mib,
    )
}

/// Troubled destinations in a few lines.
pub fn troubled(report: &TroubledReport) -> String {
    let highest = report.rss_mib.iter().copied().fold(0.0, f64::max);
    let mut text = String::new();
    for [alone, beside] in &report.events_per_second {
        text += &format!(
            "{alone:.0} events/s alone, {beside:.0} beside those in trouble: {:.3}\n",
            beside / alone
        );
    }
    text + &format!(
        "median {:.3}; {} requests to those in trouble, RSS at most {highest:.1} MiB, growth {:.1} \
         MiB",
        report.share, report.troubled_answers, report.rss_growth_mib
    )
}

/// Catching up in a few lines.
pub fn catch_up(report: &CatchUpReport) -> String {
    let mut text = String::new();
    for speeds in &report.rounds {
        text += &format!(
            "{:.0} events/s live, {:.0} stored only, {:.0} catching up: {:.2}\n",
            speeds.live,
            speeds.stored,
            speeds.catching_up,
            speeds.catching_up / speeds.live
        );
    }
    let peak = report.rss_peak_mib;
    text + &format!("median {:.2}, RSS at most {peak:.1} MiB", report.share)
}

/// Answers in a few lines.
pub fn acknowledge(report: &AcknowledgeReport) -> String {
    let phase = |phase: &Phase| {
        format!(
            "{:.0} events/s, answers p50 {:.1} ms, p99 {:.1} ms",
            phase.events_per_second, phase.answer_p50_ms, phase.answer_p99_ms
        )
    };
    let mut text = String::new();
    for round in &report.rounds {
        text += &format!("without the log: {}\n", phase(&round.without_log));
        text += &format!("with the log:    {}\n", phase(&round.with_log));
        text += &format!("steady, without: {}\n", phase(&round.steady_without_log));
        text += &format!("steady, with:    {}\n", phase(&round.steady));
        text += &format!(
            "one sync of the disk: {:.2} ms beside that, p99 {:.2} ms; {:.2} ms at rest\n",
            round.sync_ms, round.sync_p99_ms, round.idle_sync_ms
        );
    }
    text + &format!(
        "medians: {:.2} of the throughput without the log; p99 at the steady rate {:.1} syncs",
        report.share, report.syncs
    )
}
