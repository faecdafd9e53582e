//! Functions of templates that the library lacks: Go's `index`, from which the library's differs,
//! and `parseInt`.

use gotmpl::{TemplateError, Value};

/// Go's `index`. For the map of groups (recognized by its key 0), it returns an empty string for a
/// missing key, as Go does for maps of strings.
pub fn index(arguments: &[Value]) -> gotmpl::Result<Value> {
    let Some((first, keys)) = arguments.split_first() else {
        return Err(TemplateError::Exec("index of nothing".to_owned()));
    };
    let mut value = first.clone();
    for key in keys {
        let is_groups = matches!(&value, Value::Map(map) if map.contains_key("0"));
        value = match value.index(key)? {
            Value::Nil if is_groups => Value::String("".into()),
            found => found,
        };
    }
    Ok(value)
}

/// Go's `strconv.ParseUint`, with a string, a base and a number of bits.
pub fn parse_int(arguments: &[Value]) -> gotmpl::Result<Value> {
    let [Value::String(text), Value::Int(base), Value::Int(bits)] = arguments else {
        let message = "parseInt takes a string, a base and a number of bits";
        return Err(TemplateError::Exec(message.to_owned()));
    };
    parse_unsigned(text, *base, *bits)
        .map(Value::Uint)
        .ok_or_else(|| {
            let message =
                format!("parseInt: '{text}' is not a number of base {base} and {bits} bits");
            TemplateError::Exec(message)
        })
}

fn parse_unsigned(text: &str, base: i64, bits: i64) -> Option<u64> {
    let (digits, base) = match base {
        0 => {
            let lower = text.to_ascii_lowercase();
            let base = match lower.get(..2) {
                Some("0x") => 16,
                Some("0b") => 2,
                Some("0o") => 8,
                _ => 10,
            };
            let octal = base == 10 && lower.len() > 1 && lower.starts_with('0');
            let digits = if base == 10 {
                lower
            } else {
                lower[2..].to_owned()
            };
            (digits.replace('_', ""), if octal { 8 } else { base })
        }
        2..=36 => (text.to_owned(), u32::try_from(base).ok()?),
        _ => return None,
    };
    // Rust accepts a sign, Go does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = u64::from_str_radix(&digits, base).ok()?;
    let fits = match bits {
        0 | 64 => true,
        1..64 => number >> bits == 0,
        _ => return None,
    };
    fits.then_some(number)
}
