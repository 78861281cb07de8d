//! What a row becomes, and which columns hold consent: values that keep the places of what is in them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::At;

/// Anything that JSON can say except null, with places.
#[derive(Debug)]
pub(in crate::config) enum Template {
    Table(Vec<(At<String>, At<Template>)>),
    List(Vec<At<Template>>),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Template;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value that JSON has")
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Template, E> {
                Ok(Template::Boolean(value))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Template, E> {
                Ok(Template::Integer(value))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Template, E> {
                Ok(Template::Float(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Template, E> {
                Ok(Template::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Template, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Template::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Template, A::Error> {
                entries(map).map(Template::Table)
            }
        }

        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kind": "mapping" })
    }
}

/// `consent` of a model.
#[derive(Debug)]
pub(in crate::config) enum ConsentColumns {
    /// `"none"`, the only word that the schema lets through.
    None,
    Columns(Vec<(At<String>, At<String>)>),
}

impl<'de> Deserialize<'de> for ConsentColumns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrTable;

        impl<'de> Visitor<'de> for WordOrTable {
            type Value = ConsentColumns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or \"none\"")
            }

            fn visit_str<E: de::Error>(self, _: &str) -> Result<ConsentColumns, E> {
                Ok(ConsentColumns::None)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ConsentColumns, A::Error> {
                entries(map).map(ConsentColumns::Columns)
            }
        }

        deserializer.deserialize_any(WordOrTable)
    }
}

impl JsonSchema for ConsentColumns {
    fn schema_name() -> Cow<'static, str> {
        "ConsentColumns".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "enum": ["none"] },
                { "type": "object", "additionalProperties": { "type": "string" } },
            ],
            "x-kind": "consent",
        })
    }
}

fn entries<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    mut map: A,
) -> Result<Vec<(At<String>, T)>, A::Error> {
    let mut entries = Vec::new();
    while let Some(entry) = map.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}
