//! `consentd reference`: the reference of the config and its JSON Schema, from the config types.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde_json::Value;

use crate::config;

/// Arguments of `reference`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the JSON Schema instead.
    #[arg(long)]
    schema: bool,
}

/// Prints docs/config.md, or docs/config.schema.json. Exit codes: 0 done, 1 output failed.
pub(super) fn run(args: &Args) -> ExitCode {
    let schema = config::schema();
    let page = if args.schema { format!("{schema:#}\n") } else { reference(schema) };
    match io::stdout().write_all(page.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

const HEAD: &str = "\
# Config reference

One TOML file: `--config FILE`, by default `/etc/consentd/consentd.toml`. `consentd check` says what is
wrong with it, everything at once, each with its place and what to write instead. A key that consentd
does not know is an error, never ignored. Only `consent.missing` is required.

This page is made from the config types by `consentd reference`; an editor that knows JSON Schema can
use [config.schema.json](config.schema.json).

- A *size* is a number of bytes, or a string with a unit: `1048576`, `\"64KiB\"`, `\"8MiB\"`, `\"1GB\"`.
- A *duration* is a string with a unit: `\"200ms\"`, `\"30s\"`, `\"5m\"`, `\"24h\"`.
- A *text* may hold `${NAME}`, the value of an environment variable when the daemon starts; `$$` is a
  dollar.
- A *secret* is a text, or `{ file = \"...\" }`: the content of that file, without the line end, when the
  daemon starts. A relative path is looked for under `$CREDENTIALS_DIRECTORY` first. Secrets appear in no
  log, metric or error.
- `check`, `explain` and `test` need neither the variables nor the files.
";

const EXAMPLE: &str = include_str!("../../examples/production.toml");

/// The headings of the page, and where in the schema they are.
const SECTIONS: [(&str, &str); 16] = [
    ("[daemon]", "/properties/daemon"),
    ("[log]", "/properties/log"),
    ("[dead_letters]", "/properties/dead_letters"),
    ("[admin]", "/properties/admin"),
    ("[consent]", "/properties/consent"),
    ("[[categories]]", "/properties/categories"),
    ("[sources.NAME]", "/properties/sources"),
    ("[warehouses.NAME]", "/properties/warehouses"),
    ("[models.NAME]", "/properties/models"),
    ("limits", "/properties/models/additionalProperties/properties/limits"),
    ("[destinations.NAME]", "/properties/destinations"),
    ("batch", "/properties/destinations/additionalProperties/properties/batch"),
    ("retry", "/properties/destinations/additionalProperties/properties/retry"),
    ("headers", "/properties/destinations/additionalProperties/properties/headers"),
    ("rotate", "/properties/destinations/additionalProperties/properties/rotate"),
    ("[[tests]]", "/properties/tests"),
];

fn reference(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    for (heading, pointer) in SECTIONS {
        let Some(section) = schema.pointer(pointer) else { continue };
        let level = if heading.starts_with('[') { "##" } else { "###" };
        // Writing to a string does not fail.
        let _ = write!(page, "\n{level} `{heading}`\n\n{}\n", text(section));
        let table = [section, &section["items"], &section["additionalProperties"]]
            .into_iter()
            .find_map(|table| Some((table, table["properties"].as_object()?)));
        if let Some((table, keys)) = table {
            page.push_str("\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
            for (key, value) in keys {
                let required =
                    table["required"].as_array().is_some_and(|r| r.iter().any(|k| k == key));
                page.push_str(&row(key, value, required));
            }
        }
    }
    let _ = write!(page, "\n## A complete example\n\n```toml\n{EXAMPLE}```\n");
    page
}

fn row(key: &str, value: &Value, required: bool) -> String {
    let types: Vec<&str> =
        value["x-types"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let owners = types.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let default = match &value["default"] {
        _ if required => "required".to_owned(),
        _ if value["x-required"] == true => format!("required for {owners}"),
        Value::Null => String::new(),
        default => format!("`{default}`"),
    };
    let mut meaning = text(value);
    if !types.is_empty() && value["x-required"] != true {
        let _ = write!(meaning, " Only for {owners}.");
    }
    for (name, description) in config::choices(value) {
        if let Some(description) = description {
            let _ = write!(meaning, "<br>`\"{name}\"`: {}", one_line(description));
        }
    }
    format!("| `{key}` | {} | {default} | {meaning} |\n", kind(value))
}

fn kind(value: &Value) -> String {
    if let Some(kind) = value["x-kind"].as_str() {
        return match kind {
            "event" => "table or string".to_owned(),
            "mapping" => "table".to_owned(),
            "consent" => "table or `\"none\"`".to_owned(),
            kind => kind.to_owned(),
        };
    }
    let choices: Vec<String> =
        config::choices(value).iter().map(|(name, _)| format!("`\"{name}\"`")).collect();
    if !choices.is_empty() {
        return choices.join(", ");
    }
    match value["type"].as_str() {
        Some("integer") => match (value["minimum"].as_u64(), value["maximum"].as_u64()) {
            (Some(min), Some(max)) => format!("integer, {min} to {max}"),
            _ => "integer".to_owned(),
        },
        Some("array") => "list of strings".to_owned(),
        Some("object") => "table".to_owned(),
        Some(kind) => kind.to_owned(),
        None => String::new(),
    }
}

fn text(value: &Value) -> String {
    one_line(value["description"].as_str().unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
