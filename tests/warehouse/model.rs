//! Configs with one model, and the rows of its query.

use consentd::config::{self, Config, ModelConsent};
use consentd::warehouse::{self, Error, RowShape};

/// What every config of these tests begins with.
const HEAD: &str = r#"
[daemon]
data_dir = "unused"
[consent]
missing = "allow"
[[categories]]
id = "Advertising"
[[categories]]
id = "Analytics"
[destinations.ads]
type = "blackhole"
categories = ["Advertising"]
[destinations.stats]
type = "blackhole"
categories = ["Analytics"]
"#;

/// A config with `warehouse` as the body of `[warehouses.main]` and `model` as that of `[models.m]`.
#[track_caller]
pub(crate) fn config(warehouse: &str, model: &str) -> Config {
    let text = config_text(warehouse, model);
    config::parse("test.toml", text.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong}")).config
}

/// As [`config`], as text.
pub(crate) fn config_text(warehouse: &str, model: &str) -> String {
    format!("{HEAD}\n[warehouses.main]\n{warehouse}\n[models.m]\nwarehouse = \"main\"\n{model}\n")
}

/// A row as the model sees it.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// JSON, or `None` for NULL.
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    /// By position of the category.
    pub(crate) granted: Vec<bool>,
    pub(crate) content: Vec<u8>,
}

/// Every row of the model's query; the messageId is `m`.
///
/// # Errors
/// What went wrong on the way.
pub(crate) fn rows(config: &Config) -> Result<Vec<Seen>, Error> {
    let model = &config.models[0];
    let mut connection = warehouse::open(&config.warehouses[model.warehouse])?;
    let mut batches = connection.query(&model.sql().unwrap())?;
    let categories = match &model.consent {
        ModelConsent::Columns(columns) => columns.len(),
        ModelConsent::None => 0,
    };
    let shape = RowShape::new(model, &batches.schema())?;
    let mut seen = Vec::new();
    while let Some(batch) = batches.next() {
        let batch = batch?;
        let bound = shape.bind(&batch)?;
        for row in 0..bound.rows() {
            let (mut id, mut event, mut content) = (Vec::new(), Vec::new(), Vec::new());
            let has_id = bound.id(row, &mut id);
            bound.event(row, "m", &mut event);
            bound.content(row, &mut content);
            let granted = bound.granted(row);
            seen.push(Seen {
                id: has_id.then(|| String::from_utf8(id).unwrap()),
                event: String::from_utf8(event).unwrap(),
                granted: (0..categories).map(|at| granted.has(at)).collect(),
                content,
            });
        }
    }
    Ok(seen)
}
