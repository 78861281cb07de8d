//! The JSON Schema of the raw config, as it is published and as documents are checked against it.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::Value;

use super::raw;

static SCHEMA: LazyLock<Value> = LazyLock::new(generate);

/// The schema, without references: every type stands where it is used.
#[must_use]
pub fn schema() -> &'static Value {
    &SCHEMA
}

fn generate() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let settings = settings.with_transform(WithoutNull);
    settings.into_generator().into_root_schema_for::<raw::File>().into()
}

/// TOML has no null: a key that is not needed is left out.
#[derive(Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut schemars::Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_mut_slice() {
                let only = only.take();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(values)) = object.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        if let Some(Value::Array(alternatives)) = object.get_mut("anyOf") {
            alternatives.retain(|alternative| alternative["type"] != "null");
            if let [Value::Object(only)] = alternatives.as_mut_slice() {
                let only = std::mem::take(only);
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
    }
}

/// The values of a schema that lists them, each with its description.
#[must_use]
pub fn choices(schema: &Value) -> Vec<(&str, Option<&str>)> {
    let listed = schema["enum"].as_array().into_iter().flatten();
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let listed = listed.filter_map(|value| Some((value.as_str()?, None)));
    let described = described.flat_map(|alternative| {
        let description = alternative["description"].as_str();
        let constant = alternative["const"].as_str().map(|name| (name, description));
        constant.into_iter().chain(choices(alternative))
    });
    listed.chain(described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_no_null_and_no_references() {
        let text = schema().to_string();
        let nulls = ["\"null\"", ":null"];
        assert!(!nulls.iter().any(|null| text.contains(null)) && !text.contains("$ref"), "{text}");
    }

    #[test]
    fn choices_are_found_in_both_forms() {
        let destination = &schema()["properties"]["destinations"]["additionalProperties"];
        let names = |key: &str| -> Vec<&str> {
            let choices = choices(&destination["properties"][key]);
            choices.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("type"), ["http", "tcp", "file", "stdout", "blackhole"]);
        assert_eq!(names("match"), ["all", "any"]);
    }
}
