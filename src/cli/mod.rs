//! The command line: one file a command.
//!
//! Owns arguments, what is printed, and exit codes: 0 done, 1 failed, 2 wrong usage or config.
//! Output meant for programs goes to standard output, all else to standard error.

mod reload;

use std::process::ExitCode;

use clap::Parser;

/// Where the config is unless somebody says otherwise.
const CONFIG_FILE: &str = "/etc/consentd/consentd.toml";
