//! The `pprof` format (`profile.proto` of google/pprof): samples with a stack of names and a value.
//! Unused fields are omitted.

use std::collections::HashMap;

/// A profile with one type of values.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    /// String table; other fields refer to it by index. The first string is empty.
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    /// Measured time in nanoseconds; 0 for a snapshot.
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    /// Innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    /// An empty profile with the given value type and unit.
    pub(super) fn new(kind: &str, unit: &str) -> Self {
        let texts = ["", kind, unit];
        Self {
            sample_type: vec![ValueType { kind: 1, unit: 2 }],
            string_table: texts.map(str::to_owned).into(),
            ..Self::default()
        }
    }

    /// Adds a sample: a stack of names, innermost first, and its value. Zero values are skipped.
    pub(super) fn add(&mut self, stack: &[&str], value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        if value == 0 {
            return;
        }
        let location_id: Vec<u64> = stack.iter().map(|name| self.location(name)).collect();
        let same = self
            .sample
            .iter_mut()
            .find(|sample| sample.location_id == location_id);
        match same {
            Some(sample) => sample.value[0] = sample.value[0].saturating_add(value),
            None => self.sample.push(Sample {
                location_id,
                value: vec![value],
            }),
        }
    }

    /// The location of a name. Its function has the same id.
    fn location(&mut self, name: &str) -> u64 {
        let known = self.names();
        if let Some(id) = known.get(name) {
            return *id;
        }
        let id = self.function.len() as u64 + 1;
        let position = i64::try_from(self.string_table.len()).unwrap_or(i64::MAX);
        self.string_table.push(name.to_owned());
        self.function.push(Function { id, name: position });
        self.location.push(Location {
            id,
            line: vec![Line { function_id: id }],
        });
        id
    }

    fn names(&self) -> HashMap<&str, u64> {
        let named = self.function.iter().filter_map(|function| {
            let position = usize::try_from(function.name).ok()?;
            Some((self.string_table.get(position)?.as_str(), function.id))
        });
        named.collect()
    }

    /// All samples as text: stack and value.
    #[cfg(test)]
    pub(super) fn samples_as_text(&self) -> Vec<String> {
        let names: HashMap<u64, &str> = self.names().into_iter().map(|(a, b)| (b, a)).collect();
        let tell = |sample: &Sample| {
            let stack = sample.location_id.iter().map(|id| names[id]);
            let stack: Vec<&str> = stack.collect();
            format!("{} {}", stack.join(" "), sample.value[0])
        };
        self.sample.iter().map(tell).collect()
    }
}
