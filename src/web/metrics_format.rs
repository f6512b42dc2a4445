//! Which text of the metrics a client wants, by its header `Accept` (RFC 9110, 12.5.1).

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricsFormat {
    /// The classic text format of Prometheus.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl MetricsFormat {
    /// The format that `accept` prefers. A client that does not name OpenMetrics gets the classic format.
    pub(super) fn wanted(accept: &str) -> Self {
        let (mut open, mut classic, mut any) = (0.0_f64, None::<f64>, 0.0_f64);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let of = |name: &str| parameters.iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
            let quality = of("q").map_or(1.0, |quality| quality.parse().unwrap_or(0.0));
            match kind.as_str() {
                "application/openmetrics-text" if matches!(of("version"), None | Some("1.0.0")) => {
                    open = open.max(quality);
                }
                "text/plain" => classic = Some(classic.unwrap_or(0.0).max(quality)),
                "text/*" | "*/*" => any = any.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic.unwrap_or(any) { Self::OpenMetrics } else { Self::Classic }
    }

    /// The header `Content-Type`.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_prefers_and_the_classic_format_if_it_does_not_say() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                             q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            ("", MetricsFormat::Classic),
            ("*/*", MetricsFormat::Classic),
            ("text/html,application/xhtml+xml,*/*;q=0.8", MetricsFormat::Classic),
            (of_prometheus, MetricsFormat::OpenMetrics),
            ("application/openmetrics-text; version=1.0.0", MetricsFormat::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1,*/*;q=0.1", MetricsFormat::Classic),
            ("application/openmetrics-text;version=1.0.0;q=0", MetricsFormat::Classic),
            ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.9", MetricsFormat::Classic),
        ] {
            assert_eq!(MetricsFormat::wanted(accept), expected, "{accept}");
        }
    }
}
