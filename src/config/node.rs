//! YAML as a tree in which every key and value has its position.
//! Parses a file's text into a `Node`, or returns the one position where it isn't YAML. Interprets no scalars: `1m`,
//! `0x10` and `yes` stay the text that the operator wrote.

use serde::{
    Deserialize,
    de::{Deserializer, Error, MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{Location, Spanned};

use super::error::{Place, Problem};
use crate::model::yaml;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    /// Any scalar, as written; quotes and escapes are undone.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub place: Place,
    pub text: String,
}

impl Node {
    /// What this is, for "expected X, found …".
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Text(_) => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping of keys",
        }
    }
}

/// Reads one YAML document. An empty text is `Null`.
///
/// # Errors
/// When the text isn't YAML; the place is the parser's.
pub fn read(text: &str) -> Result<Node, Problem> {
    let options = serde_yaml::options! { with_snippet: false };
    match serde_yaml::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(spanned) => Ok(node(spanned, text)),
        Err(error) => {
            let error = error.without_snippet();
            let place = error.location().map_or(Place::START, |at| place(&at));
            Err(Problem::new(place, yaml::words(&error.to_string())))
        }
    }
}

/// What serde hands over before the source text is consulted.
enum Raw {
    Null,
    /// A number or boolean: only the source still knows how it was written.
    Plain,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn place(at: &Location) -> Place {
    let (line, column) = yaml::place(at);
    Place { line, column }
}

fn node(spanned: Spanned<Raw>, text: &str) -> Node {
    let value = match spanned.value {
        Raw::Null => Value::Null,
        Raw::Plain => Value::Text(yaml::source(&spanned.defined, text).unwrap_or_default().trim().to_owned()),
        Raw::Text(own) => Value::Text(own),
        Raw::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(rows) => Value::Map(
            rows.into_iter()
                .map(|(key, row)| (Key { place: place(&key.referenced), text: key.value }, node(row, text)))
                .collect(),
        ),
    };
    Node { place: place(&spanned.referenced), value }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Plain)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rows: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(row) = rows.next_entry()? {
            map.push(row);
        }
        Ok(Raw::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(node: &Node) -> Vec<(String, String, Place)> {
        let Value::Map(rows) = &node.value else { panic!("{node:?}") };
        let text = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        rows.iter().map(|(key, row)| (key.text.clone(), text(&row.value), key.place)).collect()
    }

    #[test]
    fn scalars_stay_as_written_and_keys_know_their_place() {
        let node = read("a: 0x10\nb: 1.10\nc: yes\nd: 007\n\"e\": 'x y'\nf: é  # c\n  \ng: 200x50\n").expect("yaml");
        let found = rows(&node);
        let texts: Vec<&str> = found.iter().map(|row| row.1.as_str()).collect();
        assert_eq!(texts, ["0x10", "1.10", "yes", "007", "x y", "é", "200x50"]);
        assert_eq!(found[4].2, Place { line: 5, column: 1 });
    }

    #[test]
    fn flow_style_and_aliases_keep_places() {
        let node = read("x: &n 12\ny: [{name: a,  path: *n}]\n").expect("yaml");
        let Value::Map(top) = &node.value else { panic!() };
        let Value::List(items) = &top[1].1.value else { panic!() };
        let inner = rows(&items[0]);
        assert_eq!(inner[1].1, "12");
        assert_eq!(inner[1].2, Place { line: 2, column: 16 });
    }

    #[test]
    fn broken_yaml_names_the_line() {
        let problem = read("a: 1\nb: [1, 2\nc: 3\n").expect_err("not yaml");
        assert!(problem.place.line >= 2, "{problem:?}");
        assert!(read("a: 1\na: 2\n").expect_err("twice").message.contains("duplicate"));
        assert_eq!(read("").expect("empty").value, Value::Null);
        assert_eq!(read("# only\n").expect("empty").value, Value::Null);
    }
}
