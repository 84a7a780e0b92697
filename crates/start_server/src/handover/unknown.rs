//! What a newer program has written into its state and this one does not understand. It is handed on with every state
//! that this program writes, so that a way back and forth between two versions loses nothing.

use std::collections::BTreeMap;

use serde_json::Value;

/// The part of a document that was not understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unknown(Option<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// All of a value.
    Whole(Value),
    /// Something in these members of an object that is known itself.
    Members(BTreeMap<String, Part>),
    /// Something in the elements of a list that is known itself.
    Elements(Vec<Option<Part>>),
}

impl Unknown {
    /// What stands in `text` but not in what this program would have written instead.
    ///
    /// # Errors
    /// One of them is no document.
    pub fn of(text: &[u8], understood: &[u8]) -> serde_json::Result<Self> {
        let document: Value = serde_json::from_slice(text)?;
        Ok(Self(difference(document, &serde_json::from_slice(understood)?)))
    }

    /// Whether everything was understood.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds it to a document, in the places where it stood, as far as these are still there.
    ///
    /// # Errors
    /// The text is no document.
    pub fn added_to(&self, text: &[u8]) -> serde_json::Result<Vec<u8>> {
        let mut document = serde_json::from_slice(text)?;
        if let Some(unknown) = &self.0 {
            add(&mut document, unknown);
        }
        serde_json::to_vec(&document)
    }
}

/// Lists are only compared if they have the same length: else it cannot be told which element is which.
fn difference(document: Value, known: &Value) -> Option<Part> {
    match (document, known) {
        (Value::Object(members), Value::Object(known)) => {
            let unknown: BTreeMap<String, Part> = members
                .into_iter()
                .filter_map(|(name, value)| {
                    let unknown = match known.get(&name) {
                        Some(known) => difference(value, known)?,
                        None => Part::Whole(value),
                    };
                    Some((name, unknown))
                })
                .collect();
            (!unknown.is_empty()).then_some(Part::Members(unknown))
        }
        (Value::Array(elements), Value::Array(known)) if elements.len() == known.len() => {
            let unknown: Vec<Option<Part>> =
                elements.into_iter().zip(known).map(|(element, known)| difference(element, known)).collect();
            unknown.iter().any(Option::is_some).then_some(Part::Elements(unknown))
        }
        _ => None,
    }
}

fn add(document: &mut Value, unknown: &Part) {
    match (document, unknown) {
        (Value::Object(members), Part::Members(unknown)) => {
            for (name, part) in unknown {
                match (members.get_mut(name), part) {
                    (None, Part::Whole(value)) => drop(members.insert(name.clone(), value.clone())),
                    (Some(member), part) => add(member, part),
                    (None, _) => {}
                }
            }
        }
        (Value::Array(elements), Part::Elements(unknown)) if elements.len() == unknown.len() => {
            for (element, part) in elements.iter_mut().zip(unknown) {
                part.iter().for_each(|part| add(element, part));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What becomes of `next` after a program has read `newer` and understood only so much of it.
    fn handed_on(newer: &Value, understood: &Value, next: &Value) -> Value {
        let text = |value: &Value| value.to_string().into_bytes();
        let unknown = Unknown::of(&text(newer), &text(understood)).unwrap();
        serde_json::from_slice(&unknown.added_to(&text(next)).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_understood_is_handed_on() {
        let newer = json!({"a": 1, "colour": "blue", "list": [{"x": 1, "y": 2}], "deep": {"b": 3, "new": [1, 2]}});
        let understood = json!({"a": 1, "list": [{"x": 1}], "deep": {"b": 3}, "default": 0});
        let next = json!({"a": 2, "list": [{"x": 5}], "deep": {"b": 4}, "default": 0});
        let expected = json!({"a": 2, "colour": "blue", "list": [{"x": 5, "y": 2}], "deep": {"b": 4, "new": [1, 2]}, "default": 0});
        assert_eq!(handed_on(&newer, &understood, &next), expected);
    }

    #[test]
    fn it_goes_with_what_it_belonged_to() {
        let newer = json!({"list": [{"x": 1, "y": 2}, {"x": 2}], "deep": {"new": 1}, "old": {"7": {"z": 1}}});
        let understood = json!({"list": [{"x": 1}, {"x": 2}], "deep": {}, "old": {"7": {}}});
        let next = json!({"list": [{"x": 2}], "deep": null, "old": {}});
        assert_eq!(handed_on(&newer, &understood, &next), next);
    }

    #[test]
    fn everything_was_understood() {
        let unknown = Unknown::of(br#"{"a":[1,2]}"#, br#"{"a":[1,2],"b":3}"#).unwrap();
        assert!(unknown.is_empty());
    }
}
