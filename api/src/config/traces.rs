//! Whether spans are sent to a collector, and which: OpenTelemetry's own variables.

use axum::http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::environment::{Environment, Unusable};

/// Whether spans are recorded.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Who takes them; without, none are made.
    pub collector: Option<Collector>,
    /// Which requests are recorded.
    pub sampler: Sampler,
}

/// Which requests are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// This part of all.
    Ratio(f64),
    /// Those that the caller records, and this part of those whose caller says nothing.
    ParentOrRatio(f64),
}

/// Who takes spans, and what we say about ourselves.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Whether it is reached over TLS.
    pub is_https: bool,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The host as the request names it.
    pub authority: String,
    /// Where spans are posted.
    pub path: String,
    /// What it wants to be told with each request, such as a key.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Our name.
    pub service_name: String,
    /// What else is said of us.
    pub resource: Vec<(String, String)>,
}

pub(super) fn read(environment: &Environment) -> Result<Traces, Unusable> {
    Ok(Traces {
        collector: collector(environment)?,
        sampler: sampler(environment)?,
    })
}

fn collector(environment: &Environment) -> Result<Option<Collector>, Unusable> {
    let expected = "a URL, such as `http://localhost:4318`";
    let whole = environment.parsed(
        &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"],
        None,
        expected,
        |text| endpoint(text, "").map(Some),
    )?;
    let base = environment.parsed(&["OTEL_EXPORTER_OTLP_ENDPOINT"], None, expected, |text| {
        endpoint(text, "/v1/traces").map(Some)
    })?;
    let Some(found) = whole.or(base) else {
        return Ok(None);
    };
    if environment.flag("OTEL_SDK_DISABLED")? {
        return Ok(None);
    }
    let protocol = environment.first(&[
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ]);
    if let Some(protocol) = protocol.filter(|it| it.value != "http/json") {
        environment.warn(format!(
            "`{}` is ignored; spans are sent as `http/json`, which collectors take on port 4318",
            protocol.name
        ));
    }
    let mut resource = environment.parsed(
        &["OTEL_RESOURCE_ATTRIBUTES"],
        Vec::new(),
        "a list of pairs with commas, such as `deployment.environment.name=production`",
        pairs,
    )?;
    let named = resource.iter().position(|(key, _)| key == "service.name");
    let named = named.map(|it| resource.remove(it).1);
    let service_name = environment.first(&["OTEL_SERVICE_NAME"]).map(|it| it.value);
    Ok(Some(Collector {
        headers: headers(environment)?,
        service_name: service_name
            .or(named)
            .unwrap_or_else(|| "causeway-api".to_owned()),
        resource,
        ..found
    }))
}

fn endpoint(text: &str, path: &str) -> Option<Collector> {
    let uri: Uri = text.parse().ok()?;
    let is_https = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let authority = uri.authority().filter(|it| !it.as_str().contains('@'))?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let path = match (uri.path_and_query()?.as_str(), path) {
        (given, "") => given.to_owned(),
        (given, path) => format!("{}{path}", given.trim_end_matches('/')),
    };
    Some(Collector {
        is_https,
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
        authority: authority.to_string(),
        path,
        headers: Vec::new(),
        service_name: String::new(),
        resource: Vec::new(),
    })
}

fn headers(environment: &Environment) -> Result<Vec<(HeaderName, HeaderValue)>, Unusable> {
    let found = environment.secret(&[
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ])?;
    let Some(found) = found else {
        return Ok(Vec::new());
    };
    let header = |(name, value): (String, String)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    let headers = pairs(found.value.reveal())
        .and_then(|pairs| pairs.into_iter().map(header).collect::<Option<Vec<_>>>());
    let form = "write headers as `name=value`, with commas between them";
    headers.ok_or_else(|| Unusable::hidden(&found.name, form))
}

/// Reads `key=value` pairs with commas, whose values may be percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
    };
    let each = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    each.map(pair).collect()
}

fn sampler(environment: &Environment) -> Result<Sampler, Unusable> {
    let ratio = environment.parsed(
        &["OTEL_TRACES_SAMPLER_ARG"],
        1.0,
        "a part of all requests, from `0` to `1`",
        |text| text.parse().ok().filter(|it| (0.0..=1.0).contains(it)),
    )?;
    environment.parsed(
        &["OTEL_TRACES_SAMPLER"],
        Sampler::ParentOrRatio(1.0),
        "`always_on`, `always_off`, `traceidratio`, or one of them after `parentbased_`",
        |text| match text {
            "always_on" => Some(Sampler::Ratio(1.0)),
            "always_off" => Some(Sampler::Ratio(0.0)),
            "traceidratio" => Some(Sampler::Ratio(ratio)),
            "parentbased_always_on" => Some(Sampler::ParentOrRatio(1.0)),
            "parentbased_always_off" => Some(Sampler::ParentOrRatio(0.0)),
            "parentbased_traceidratio" => Some(Sampler::ParentOrRatio(ratio)),
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(variables: &[(&str, &str)]) -> Result<Traces, Unusable> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read(&Environment::new(owned))
    }

    #[test]
    fn nothing_is_recorded_unless_somebody_takes_it() {
        assert!(read_from(&[]).unwrap().collector.is_none());
        let disabled = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_SDK_DISABLED", "true"),
        ];
        assert!(read_from(&disabled).unwrap().collector.is_none());
    }

    #[test]
    fn spans_go_where_opentelemetry_says() {
        let found = |name, url| {
            let collector = read_from(&[(name, url)]).unwrap().collector.unwrap();
            (
                collector.is_https,
                collector.host,
                collector.port,
                collector.path,
            )
        };
        let base = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let whole = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let place = |is_https, host: &str, port, path: &str| {
            (is_https, host.to_owned(), port, path.to_owned())
        };
        assert_eq!(
            found(base, "http://collector:4318"),
            place(false, "collector", 4318, "/v1/traces")
        );
        assert_eq!(
            found(base, "https://otel.example/in/"),
            place(true, "otel.example", 443, "/in/v1/traces")
        );
        assert_eq!(
            found(whole, "http://[::1]:1/x?y=1"),
            place(false, "::1", 1, "/x?y=1")
        );
        for bad in ["collector:4318", "grpc://x", "http://", "http://a:b@c"] {
            assert!(read_from(&[(base, bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn says_who_it_is_and_keeps_keys_to_itself() {
        let traces = read_from(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, x-team = blue"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=hello,zone=b"),
            ("OTEL_TRACES_SAMPLER", "traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ])
        .unwrap();
        let collector = traces.collector.unwrap();

        assert_eq!(collector.service_name, "hello");
        assert_eq!(collector.resource, [("zone".to_owned(), "b".to_owned())]);
        assert_eq!(collector.headers.len(), 2);
        assert_eq!(collector.headers[0].1, "a b");
        assert!(!format!("{collector:?}").contains("a b"));
        assert_eq!(traces.sampler, Sampler::Ratio(0.25));
        let refusal = read_from(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ])
        .unwrap_err();
        assert!(!refusal.to_string().contains("hunter2"));
    }
}
