//! The fields of a JSON object, each read by one rule.

use serde_json::Value;

use super::Invalid;

/// The longest name of anything, in characters.
pub(super) const NAME_MAX: usize = 255;

/// Reads a text of 1 to `longest` characters that shows something.
pub(super) fn text(
    field: &'static str,
    value: Option<&Value>,
    longest: usize,
) -> Result<String, Invalid> {
    let text = any_text(field, required(field, value)?, longest)?;
    if text.trim().is_empty() {
        let message = format!("{field} must not be blank");
        return Err(Invalid::new(field, "blank", message));
    }
    Ok(text)
}

/// Reads a text of at most `longest` characters, or none.
pub(super) fn optional_text(
    field: &'static str,
    value: Option<&Value>,
    longest: usize,
) -> Result<Option<String>, Invalid> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => any_text(field, value, longest).map(Some),
    }
}

/// Returns the value of a field that must be there.
pub(super) fn required<'a>(
    field: &'static str,
    value: Option<&'a Value>,
) -> Result<&'a Value, Invalid> {
    value.ok_or_else(|| Invalid::new(field, "required", format!("{field} is required")))
}

fn any_text(field: &'static str, value: &Value, longest: usize) -> Result<String, Invalid> {
    let Value::String(text) = value else {
        let message = format!("{field} must be a string");
        return Err(Invalid::new(field, "not-a-string", message));
    };
    // PostgreSQL's texts end where one would be.
    if text.contains('\0') {
        let message = format!("{field} must not contain the character NUL");
        return Err(Invalid::new(field, "nul", message));
    }
    if text.chars().count() > longest {
        let message = format!("{field} must not be longer than {longest} characters");
        return Err(Invalid::new(field, "too-long", message));
    }
    Ok(text.clone())
}
