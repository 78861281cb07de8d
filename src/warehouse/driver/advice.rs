//! Where drivers are looked for, and what to do where one is missing.

use adbc_core::error::Error as AdbcError;

use crate::config::Warehouse;

/// A name under which a driver may be found, and how it starts.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) entrypoint: Option<String>,
}

/// The names to try, in order.
pub(super) fn candidates(warehouse: &Warehouse) -> Vec<Candidate> {
    let named = |name: String| Candidate {
        entrypoint: warehouse.entrypoint.clone().or_else(|| {
            let duck = name.to_ascii_lowercase().contains("duckdb");
            duck.then(|| "duckdb_adbc_init".to_owned())
        }),
        name,
    };
    if let Some(path) = &warehouse.path {
        return vec![named(path.display().to_string())];
    }
    let driver = &warehouse.driver;
    vec![named(driver.clone()), named(format!("adbc_driver_{driver}"))]
}

/// How to come by a driver: a package, and what is in it.
#[must_use]
pub fn driver_help(driver: &str) -> String {
    let wheel = |name: &str| {
        format!(
            "install it with `pip install {name}` and write the path that `python3 -c \"import {0}; \
             print({0}._driver_path())\"` prints as path = \"...\" (or copy that library to \
             /usr/local/lib), or install it with `dbc install {driver}`",
            name.replace('-', "_")
        )
    };
    match driver {
        "postgresql" | "snowflake" | "bigquery" | "flightsql" => {
            wheel(&format!("adbc-driver-{driver}"))
        }
        "postgres" | "redshift" => "write driver = \"postgresql\"".to_owned(),
        "duckdb" => "download DuckDB's library (libduckdb.so, from its releases or from the npm \
                     package @duckdb/node-bindings-linux-x64) and write path = \"/usr/local/lib/libduckdb.so\""
            .to_owned(),
        _ => format!("install it with `dbc install {driver}`, or write its library as path = \"...\""),
    }
}

/// What was tried, in the words of the loader, and what to do.
pub(super) fn not_loaded(warehouse: &Warehouse, problems: &[AdbcError]) -> String {
    let driver = &warehouse.driver;
    if let Some(path) = &warehouse.path {
        let said = problems.first().map_or("", |problem| problem.message.as_str());
        let there = if path.is_file() { "is there but can't be used" } else { "is not there" };
        return format!("the driver's library {} {there}: {said}", path.display());
    }
    format!(
        "the ADBC driver `{driver}` is not installed: neither a manifest {driver}.toml (in \
         $ADBC_DRIVER_PATH, ~/.config/adbc/drivers or /etc/adbc/drivers) nor a library \
         libadbc_driver_{driver}.so on the library path was found; {}",
        driver_help(driver)
    )
}
