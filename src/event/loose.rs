//! Values that may be of another type than documented: read in the same pass, and nothing instead of an error.
//!
//! GitHub's payloads hold `null`, or leave out, almost anything. One odd field must not cost a run.

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// A text, a whole number, or whatever else stood there.
#[derive(Debug, Default)]
pub(super) enum Leaf<'a> {
    Text(Cow<'a, str>),
    Int(u64),
    #[default]
    Other,
}

impl Leaf<'_> {
    /// The text, unless it is empty or none.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn owned(&self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    pub(super) fn int(&self) -> Option<u64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }
}

/// An object of the wanted shape, or nothing where something else stood.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// No more elements of a list are kept: each takes more memory than the few bytes that it may stand in.
const LIST_MAX: usize = 1000;

/// A list of whatever is wanted of its elements, empty where something else stood.
#[derive(Debug)]
pub(super) struct List<T> {
    pub(super) kept: Vec<T>,
    /// How many more there were.
    pub(super) more: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), more: 0 }
    }
}

fn skip_seq<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

struct LeafVisitor;

impl<'de> Visitor<'de> for LeafVisitor {
    type Value = Leaf<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Leaf::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Leaf::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Leaf::Int(number))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Leaf::Other)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Leaf::Other)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Leaf::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Leaf::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        skip_seq(seq).map(|()| Leaf::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Leaf<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LeafVisitor)
    }
}

/// What is wanted of a value; anything else is the default.
trait Wanted<'de>: Default {
    fn of_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn of_seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        skip_seq(seq).map(|()| Self::default())
    }
}

impl<'de, T: Deserialize<'de>> Wanted<'de> for Object<T> {
    fn of_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(|value| Self(Some(value)))
    }
}

impl<'de, T: Deserialize<'de>> Wanted<'de> for List<T> {
    fn of_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut list = Self::default();
        while list.kept.len() < LIST_MAX
            && let Some(element) = seq.next_element()?
        {
            list.kept.push(element);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            list.more += 1;
        }
        Ok(list)
    }
}

struct WantedVisitor<W>(PhantomData<W>);

impl<'de, W: Wanted<'de>> Visitor<'de> for WantedVisitor<W> {
    type Value = W;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<W, A::Error> {
        W::of_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<W, A::Error> {
        W::of_seq(seq)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<W, E> {
        Ok(W::default())
    }

    fn visit_unit<E: de::Error>(self) -> Result<W, E> {
        Ok(W::default())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WantedVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WantedVisitor(PhantomData))
    }
}
