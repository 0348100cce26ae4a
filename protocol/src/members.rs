//! A JSON object as its members: names, and values as the text in which they came.
//!
//! What users put into objects, messages and profiles is theirs: the server stores and relays it and must not
//! change it on the way (a number's digits, the order of members). So values stay text.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

/// The members of a JSON object in the order in which they came. A name that comes twice counts once, with its
/// last value, as in JavaScript.
#[derive(Debug, Clone, Default)]
pub struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// The value of the member `name`, as JSON text.
    pub fn value(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// Sets `name` to `value`, in its old place if it has one, else at the end. This searches: for many names
    /// at once there is [`Members::merge`].
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Removes the member `name`.
    pub fn remove(&mut self, name: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1)
    }

    /// Sets every member of `changes`, one level deep: a value is replaced whole, never merged.
    pub fn merge(&mut self, changes: &Members) {
        // As in `deserialize`: a search per change would let two large objects cost their product.
        let places: HashMap<&str, usize> =
            self.0.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let places: Vec<Option<usize>> =
            changes.0.iter().map(|(name, _)| places.get(name.as_str()).copied()).collect();
        for ((name, value), place) in changes.0.iter().zip(places) {
            match place {
                Some(at) => self.0[at].1 = value.clone(),
                None => self.0.push((name.clone(), value.clone())),
            }
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), &**value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// About how many bytes these members take as JSON; never less than their names and values.
    pub fn json_bytes(&self) -> usize {
        2 + self.0.iter().map(|(name, value)| escaped_bytes(name) + value.get().len() + 4).sum::<usize>()
    }
}

/// How many bytes `text` takes inside a JSON string: up to six for one of its own.
fn escaped_bytes(text: &str) -> usize {
    let escaped = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
        0x00..=0x1F => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

/// `text` as a JSON string value.
pub fn json_string(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).expect("a string is always valid JSON")
}

/// `number` as a JSON number value.
pub fn json_number(number: u64) -> Box<RawValue> {
    serde_json::value::to_raw_value(&number).expect("a number is always valid JSON")
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                // A linear search per name would let a payload of thousands of tiny members cost its square.
                let mut places = HashMap::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    match places.get(&name) {
                        Some(&at) => members[at as usize].1 = value,
                        None => {
                            places.insert(name.clone(), members.len() as u32);
                            members.push((name, value));
                        }
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> Members {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn values_keep_their_text_and_order() {
        let json = r#"{"b":1.10,"a":{"x":[1, 2]},"c":12345678901234567890}"#;
        assert_eq!(serde_json::to_string(&members(json)).unwrap(), json);
    }

    #[test]
    fn the_last_of_two_equal_names_wins() {
        assert_eq!(serde_json::to_string(&members(r#"{"a":1,"b":2,"a":3}"#)).unwrap(), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn merge_replaces_adds_and_keeps_the_rest() {
        let mut object = members(r#"{"id":"x","at":{"x":1,"y":2},"colour":"red"}"#);
        object.merge(&members(r#"{"at":{"x":5},"size":2}"#));
        assert_eq!(
            serde_json::to_string(&object).unwrap(),
            r#"{"id":"x","at":{"x":5},"colour":"red","size":2}"#
        );
    }

    #[test]
    fn a_merge_of_many_members_is_what_setting_each_comes_to() {
        const COUNT: usize = 100_000;
        let numbered = |range: std::ops::Range<usize>, value: usize| {
            let list: Vec<_> = range.map(|index| format!("\"m{index}\":{value}")).collect();
            members(&format!("{{{}}}", list.join(",")))
        };
        let mut object = numbered(0..COUNT, 1);
        object.merge(&numbered(COUNT / 2..COUNT * 3 / 2, 2));
        assert_eq!(object.len(), COUNT * 3 / 2);
        for (index, (name, value)) in object.iter().enumerate() {
            let expected = if index < COUNT / 2 { "1" } else { "2" };
            assert_eq!((name, value.get()), (format!("m{index}").as_str(), expected));
        }
    }

    #[test]
    fn the_byte_count_is_never_too_small() {
        let escaped = r#"{"\u0001\u0000\u001f\u0007\b\f\n\r\t\"\\/é\u007f":1}"#;
        for json in ["{}", r#"{"a":1}"#, r#"{"a":1,"bb":"cc","d":[1,2,3]}"#, escaped] {
            let members = members(json);
            assert!(members.json_bytes() >= serde_json::to_string(&members).unwrap().len(), "{json}");
        }
    }
}
