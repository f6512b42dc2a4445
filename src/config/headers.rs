//! Headers for the receiver of traces, in the spelling of the variable `OTEL_EXPORTER_OTLP_HEADERS` of OpenTelemetry:
//! `name=value` with a percent-encoded value, separated by commas. Pure code.

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

/// Reads the headers. Their values are secret: they are left out where a header is shown.
///
/// # Errors
/// The reason in words, without the value.
pub(crate) fn parse(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    // A comma at the end is usual.
    for (place, pair) in (1..).zip(text.trim().trim_end_matches(',').split(',')) {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("has no `=` in header {place}"))?;
        let name: HeaderName = name.trim().parse().map_err(|_| format!("has a wrong name in header {place}"))?;
        let value: Vec<u8> = percent_decode_str(value.trim()).collect();
        let mut value = HeaderValue::from_bytes(&value)
            .map_err(|_| format!("has a wrong character in the value of header {place}"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_opentelemetry_writes_them() {
        let headers = parse("authorization=Basic%20YTpi=, X-Team = one%2Ctwo ,").unwrap();
        let shown: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(shown, [("authorization", &b"Basic YTpi="[..]), ("x-team", b"one,two")]);
        assert!(headers.values().all(HeaderValue::is_sensitive));
        for (text, fault) in [
            ("secret", "no `=` in header 1"),
            ("a=b,c d=secret", "name in header 2"),
            ("a=secret%0A", "value of header 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(fault) && !error.contains("secret"), "{error}");
        }
    }
}
