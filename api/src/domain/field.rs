//! Rules of the fields of a JSON object.

use serde_json::Value;

use super::Invalid;

/// Also of the style of a beer.
pub(super) const MAX_NAME_CHARS: usize = 255;

/// Parses text of 1 to `max_chars` characters that is not blank.
pub(super) fn text(
    field: &'static str,
    value: Option<&Value>,
    max_chars: usize,
) -> Result<String, Invalid> {
    let text = any_text(field, required(field, value)?, max_chars)?;
    if text.trim().is_empty() {
        let message = format!("{field} must not be blank");
        return Err(Invalid::new(field, "blank", message));
    }
    Ok(text)
}

/// Parses text of at most `max_chars` characters, if there is any.
pub(super) fn optional_text(
    field: &'static str,
    value: Option<&Value>,
    max_chars: usize,
) -> Result<Option<String>, Invalid> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => any_text(field, value, max_chars).map(Some),
    }
}

/// Returns the value of a required field.
pub(super) fn required<'a>(
    field: &'static str,
    value: Option<&'a Value>,
) -> Result<&'a Value, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "required", format!("{field} is required")))
}

fn any_text(field: &'static str, value: &Value, max_chars: usize) -> Result<String, Invalid> {
    let Value::String(text) = value else {
        let message = format!("{field} must be a string");
        return Err(Invalid::new(field, "not-a-string", message));
    };
    // PostgreSQL's text type cannot store it.
    if text.contains('\0') {
        let message = format!("{field} must not contain the character NUL");
        return Err(Invalid::new(field, "nul", message));
    }
    if text.chars().count() > max_chars {
        let message = format!("{field} must not be longer than {max_chars} characters");
        return Err(Invalid::new(field, "too-long", message));
    }
    Ok(text.clone())
}
