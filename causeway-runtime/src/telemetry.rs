//! Logging of every program: logfmt for reading and `grep`, JSON for log collectors.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use serde::Deserialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `ts=… level=info msg=… key=value`.
    #[default]
    Logfmt,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error at `level`, a filter such as `info` or
/// `failover_ctl=debug,warn`. A second call in one process changes nothing.
///
/// # Errors
///
/// An error if `level` is not a filter.
pub fn start(level: &str, format: LogFormat) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    // A line that cannot be written, for example to a full disk, is lost. Reporting that on standard error
    // would end the program: `eprintln!` panics.
    let to_stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    let lines = match format {
        LogFormat::Logfmt => to_stderr
            .fmt_fields(Pairs)
            .event_format(Logfmt)
            .with_filter(filter)
            .boxed(),
        LogFormat::Json => to_stderr
            .json()
            .flatten_event(true)
            .with_filter(filter)
            .boxed(),
    };
    if tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .is_err()
    {
        tracing::debug!("logging was started before");
    }
    Ok(())
}

/// Format of an event as one logfmt line: time, level, message, its fields, then its spans' fields.
struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        write!(line, "ts={:.3} level={level}", Timestamp::now())?;
        let mut fields = PairWriter::new(&mut line);
        event.record(&mut fields);
        fields.result?;
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.write_str(fields)?;
            }
        }
        writeln!(line)
    }
}

/// Format of a span's fields as ` key=value` pairs.
struct Pairs;

impl<'w> FormatFields<'w> for Pairs {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut line: Writer<'w>,
        fields: R,
    ) -> fmt::Result {
        let mut pairs = PairWriter::new(&mut line);
        fields.record(&mut pairs);
        pairs.result
    }
}

struct PairWriter<'a, 'w> {
    line: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl<'a, 'w> PairWriter<'a, 'w> {
    fn new(line: &'a mut Writer<'w>) -> Self {
        Self {
            line,
            result: Ok(()),
        }
    }

    fn pair(&mut self, field: &Field, value: &str) {
        let key = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.result = self
            .result
            .and_then(|()| write!(self.line, " {key}={}", Quoted(value)));
    }
}

impl Visit for PairWriter<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.pair(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.pair(field, &format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.pair(field, &chain(value));
    }
}

/// Returns an error and its causes as one line, outermost first: no error message contains its cause's, so
/// reports print the chain.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A logfmt value, quoted if a space, a quote or a control character makes it necessary.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |letter: char| letter.is_ascii_graphic() && !matches!(letter, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(plain) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(f, "\\{letter}")?,
                '\n' => f.write_str("\\n")?,
                letter if letter.is_control() => write!(f, "\\u{:04x}", u32::from(letter))?,
                letter => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feed_or_equals_sign_in_a_value_then_quoted() {
        assert_eq!(Quoted("SchemaUpToDate").to_string(), "SchemaUpToDate");
        assert_eq!(
            Quoted("a level=error\nb").to_string(),
            r#""a level=error\nb""#
        );
        assert_eq!(Quoted("").to_string(), r#""""#);
    }
}
