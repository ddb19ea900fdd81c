//! Integers that are written with a zero fraction or with an exponent. JSON has only
//! numbers: `60`, `60.0` and `6e1` are the same number, and some languages write all
//! integers in the second form.

use std::fmt;

use serde::Deserializer;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{IntoDeserializer, Visitor};
use serde_json::{Error, Number, Value};

/// Deserializes a value like `serde_json`, but accepts all forms of integers.
#[derive(Clone, Copy)]
pub(super) struct AnyIntegerForm<'a>(pub(super) &'a Value);

/// Returns the integer that a number in another form stands for, if it fits in 64 bits.
fn to_integer(number: &Number) -> Option<Number> {
    if number.is_i64() || number.is_u64() {
        return None;
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    // The text of a floating point number has all digits and no exponent.
    let digits = float.to_string();
    let digits = if digits == "-0" { "0" } else { &digits };
    digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from)).ok()
}

impl<'de> IntoDeserializer<'de, Error> for AnyIntegerForm<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Methods that read an integer.
macro_rules! read_integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                Value::Number(number) => match to_integer(number) {
                    Some(whole) => whole.$method(visitor),
                    None => number.$method(visitor),
                },
                other => other.$method(visitor),
            }
        }
    )*};
}

/// Methods that read a value without integers.
macro_rules! forward {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.0.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for AnyIntegerForm<'de> {
    type Error = Error;

    read_integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    forward! {
        deserialize_bool deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Array(items) = self.0 else { return self.0.deserialize_seq(visitor) };
        let mut items = SeqDeserializer::new(items.iter().map(AnyIntegerForm));
        let value = visitor.visit_seq(&mut items)?;
        items.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Object(object) = self.0 else { return self.0.deserialize_map(visitor) };
        let mut members = MapDeserializer::new(object.iter().map(|(key, value)| (key.as_str(), AnyIntegerForm(value))));
        let value = visitor.visit_map(&mut members)?;
        members.end()?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }
}

impl fmt::Debug for AnyIntegerForm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Sample {
        count: u32,
        far: Option<i64>,
        list: Vec<u8>,
        part: Option<Box<Sample>>,
        share: f64,
        any: Value,
    }

    fn read(text: &str) -> Result<Sample, Error> {
        Sample::deserialize(AnyIntegerForm(&serde_json::from_str(text).unwrap()))
    }

    #[test]
    fn all_forms_of_integers_are_accepted() {
        let text = r#"{"count": 60.0, "far": -6e1, "list": [1.0, 2, 30e-1], "share": 1, "any": {"n": 60.0},
            "part": {"count": 6e1, "list": [], "share": 0.5, "any": [1.0]}}"#;
        let sample = read(text).unwrap();
        assert_eq!((sample.count, sample.far, sample.list), (60, Some(-60), vec![1, 2, 3]));
        assert_eq!(sample.part.unwrap().count, 60);
        // A value that is not read as an integer stays as it was written.
        assert_eq!(sample.any.to_string(), r#"{"n":60.0}"#);
    }

    #[test]
    fn other_values_are_refused_like_in_serde_json() {
        for wrong in ["1.5", "-1.0", "1e10", "\"1\"", "1e300", "null"] {
            let text = format!(r#"{{"count": {wrong}, "list": [], "share": 1, "any": 0}}"#);
            let (ours, theirs) = (read(&text).unwrap_err(), serde_json::from_str::<Sample>(&text).unwrap_err());
            let theirs = theirs.to_string();
            let theirs = theirs.split(" at line").next().unwrap().to_owned();
            let same = ours.to_string() == theirs || ["-1.0", "1e10"].contains(&wrong);
            assert!(same, "{wrong}: {ours}, {theirs}");
        }
    }

    #[test]
    fn integers_are_limited_to_64_bits() {
        let whole = |text: &str| to_integer(&serde_json::from_str(text).unwrap()).map(|whole| whole.to_string());
        assert_eq!(whole("9007199254740993.0").as_deref(), Some("9007199254740992"));
        assert_eq!(whole("-9007199254740992.0").as_deref(), Some("-9007199254740992"));
        assert_eq!(whole("18446744073709551616.0"), None);
        assert_eq!((whole("-0.0").as_deref(), whole("0.25"), whole("7")), (Some("0"), None, None));
        assert_eq!(json!(1.0).to_string(), "1.0");
    }
}
