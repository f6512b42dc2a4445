//! The part of the table of keys about other servers than MongoDB: the mail server, the company directory, the webhook
//! for notices, Sentry, the receiver of traces.

use std::time::Duration;

use super::key::{ConfigKey, DAY, Fallback, HOUR, MINUTE, SECOND, Section, ValueKind, duration, secret_file};

pub(super) fn smtp() -> Section {
    let bounds = (Duration::from_millis(100), HOUR);
    Section::new(
        "smtp",
        "The mail server.",
        vec![
            ConfigKey::new(
                "smtp.url",
                ValueKind::SmtpUrl,
                Fallback::Unset("smtp://user:password@host:587?tls=required"),
                "Without it, messages are written to `mail.outbox_directory`. `smtps://` speaks TLS from the start, \
                 `tls=required` turns it on with STARTTLS, `tls=opportunistic` where the server offers that.",
            )
            .secret()
            .short("SMTP_URL"),
            secret_file("smtp.url_file", "A file that holds the URL."),
            ConfigKey::new(
                "smtp.from",
                ValueKind::Email,
                Fallback::Value("La bonne alternance <no-reply@example.com>"),
                "The sender of every message.",
            ),
            ConfigKey::new(
                "smtp.ca_file",
                ValueKind::Path,
                Fallback::Unset("/etc/ssl/private-ca.pem"),
                "Certificates (PEM) to trust in addition to the public ones, for a server with a private authority.",
            ),
            duration("smtp.connect_timeout", bounds, "10s", "How long connecting and logging in may take."),
            duration("smtp.send_timeout", bounds, "60s", "How long one message may take."),
            ConfigKey::new(
                "smtp.connections",
                ValueKind::Count { min: 1, max: 50 },
                Fallback::Value("4"),
                "The number of messages sent at the same time, each on a connection that stays open.",
            ),
            ConfigKey::new(
                "smtp.rate",
                ValueKind::Count { min: 1, max: 1_000 },
                Fallback::Value("20"),
                "The most messages per second.",
            ),
        ],
    )
}

pub(super) fn mail() -> Section {
    let outbox = ConfigKey::new(
        "mail.outbox_directory",
        ValueKind::Path,
        Fallback::Value("outbox"),
        "Where messages are written as `.eml` files when there is no `smtp.url`.",
    );
    Section::new(
        "mail",
        "What every e-mail says, and where it goes without a mail server.",
        vec![
            outbox,
            ConfigKey::new(
                "mail.sender",
                ValueKind::Text,
                Fallback::Value("La bonne alternance"),
                "Who sends the e-mails: the name in their footer.",
            ),
            ConfigKey::new(
                "mail.contact",
                ValueKind::Email,
                Fallback::Value("labonnealternance@apprentissage.beta.gouv.fr"),
                "The public address for answers (`Reply-To`) and for objections. The footer shows it.",
            ),
            ConfigKey::new(
                "mail.unsubscribe",
                ValueKind::Unsubscription,
                Fallback::Unset("mailto:name@example.com?subject=unsubscribe"),
                "Where a user can unsubscribe (header `List-Unsubscribe`). Off: no such header.",
            ),
        ],
    )
}

pub(super) fn links() -> Section {
    let link = |name: &str, places, default, doc| {
        ConfigKey::new(format!("mail.links.{name}"), ValueKind::Link(places), Fallback::Value(default), doc)
    };
    Section::new(
        "mail.links",
        "The links in e-mails. `{public_url}` is `target.public_url`, `{job}` the id of the offer.",
        vec![
            ConfigKey::new(
                "mail.links.jwt_secret",
                ValueKind::SigningKey { min: 32 },
                Fallback::Unset("the key with which the platform checks its own tokens"),
                "The key of the tokens in the links, of 32 bytes or more: the platform's. Without it, e-mails have the \
                 link to the log-in page only.",
            )
            .secret(),
            secret_file("mail.links.jwt_secret_file", "A file that holds the key."),
            link("space", &[], "{public_url}/espace-pro/authentification", "The log-in page."),
            link(
                "cancel",
                &["job", "token"],
                "{public_url}/espace-pro/offre/offres_emploi_lba/{job}/cancel?token={token}",
                "The page that takes an offer off the site.",
            ),
            link(
                "provided",
                &["job", "token"],
                "{public_url}/espace-pro/offre/offres_emploi_lba/{job}/provided?token={token}",
                "The page that declares an offer filled.",
            ),
            link(
                "introduction",
                &["establishment_id", "job", "token"],
                "{public_url}/espace-pro/mise-en-relation/{establishment_id}/{job}?token={token}",
                "The page that shares an offer with training centres.",
            ),
            link("privacy", &[], "{public_url}/politique-de-confidentialite", "The privacy policy, for the footer."),
        ],
    )
}

pub(super) fn directory() -> Section {
    let text = |name: &str, default, doc| ConfigKey::new(format!("directory.{name}"), ValueKind::Text, default, doc);
    Section::new(
        "directory",
        "The company directory (API Entreprise, version 3). The collection `cache_siret` is read first.",
        vec![
            ConfigKey::new(
                "directory.base_url",
                ValueKind::BaseUrl,
                Fallback::Unset("https://entreprise.api.gouv.fr/v3"),
                "The address of the API. Without it, only `cache_siret` is read.",
            ),
            text("token", Fallback::Unset("token"), "The token of the API.").secret(),
            secret_file("directory.token_file", "A file that holds the token."),
            text("context", Fallback::Value("La bonne alternance"), "The context of a call, for the API."),
            text("object", Fallback::Value("Vérification d'un établissement"), "The reason of a call, for the API."),
            text("recipient", Fallback::Unset("12345678901234"), "The siret of the caller, for the API."),
            duration("directory.timeout", (Duration::from_millis(100), MINUTE), "10s", "How long one call may take."),
            ConfigKey::new(
                "directory.rate",
                ValueKind::Count { min: 1, max: 100 },
                Fallback::Value("4"),
                "The most calls per second.",
            ),
            duration(
                "directory.cache_age",
                (Duration::ZERO, DAY.saturating_mul(3650)),
                "30d",
                "A younger entry of `cache_siret` is used without a call.",
            ),
            ConfigKey::new(
                "directory.geocoding_url",
                ValueKind::ServiceUrl,
                Fallback::Unset("https://api-adresse.data.gouv.fr/search/"),
                "The search of the national address service (GeoJSON), which gives an address its point. Without it, \
                 an establishment whose point is not known stays pending.",
            ),
            duration(
                "directory.longest_wait",
                (SECOND, HOUR),
                "1m",
                "If the API asks for a longer pause than this, the run stops and the next run continues.",
            ),
        ],
    )
}

pub(super) fn refresh() -> Section {
    let archive = ConfigKey::new(
        "refresh.archive_refused",
        ValueKind::Boolean,
        Fallback::Value("true"),
        "Closed establishments, those that may not be published and training bodies are archived, with their offers. \
         Off: they stay pending and are counted.",
    );
    Section::new("refresh", "What `refresh-pending-establishments` does with an establishment.", vec![archive])
}

pub(super) fn notices() -> Section {
    Section::new(
        "notices",
        "One line per job run with changes or failures, and per event of the timeline that is worth one.",
        vec![
            ConfigKey::new(
                "notices.webhook_url",
                ValueKind::Url(&["http", "https"]),
                Fallback::Unset("https://hooks.example.com/services/name"),
                "An incoming webhook (Slack format).",
            )
            .secret(),
            secret_file("notices.webhook_url_file", "A file that holds the URL."),
        ],
    )
}

pub(super) fn sentry() -> Section {
    Section::new(
        "sentry",
        "Reports of errors in Sentry's protocol: the lines of the log of `run` at ERROR, and panics, without values of \
         documents.",
        vec![
            ConfigKey::new(
                "sentry.dsn",
                ValueKind::SentryDsn,
                Fallback::Unset("https://key@sentry.example.com/1"),
                "The project that gets the reports. Without it, nothing is reported.",
            )
            .secret()
            .short("SENTRY_DSN"),
            secret_file("sentry.dsn_file", "A file that holds the DSN."),
        ],
    )
}

pub(super) fn traces() -> Section {
    Section::new(
        "traces",
        "Traces of the work of `run`, by OTLP over HTTP (protobuf): a batch of the stream, a run of a time-based job and a \
         command are a trace each, without values of documents.",
        vec![
            ConfigKey::new(
                "traces.endpoint",
                ValueKind::Url(&["http", "https"]),
                Fallback::Unset("http://collector.example.com:4318/v1/traces"),
                "Where traces are sent, with the whole path. Without it, none are made.",
            ),
            ConfigKey::new(
                "traces.headers",
                ValueKind::Headers,
                Fallback::Unset("authorization=Bearer%20token"),
                "Headers of each call, such as the key of the collector: `name=value`, percent-encoded, separated by commas.",
            )
            .secret(),
            secret_file("traces.headers_file", "A file that holds the headers."),
            ConfigKey::new(
                "traces.sample_one_in",
                ValueKind::Count { min: 1, max: 1_000_000 },
                Fallback::Value("1"),
                "One of so many traces is sent: 1 sends all, 100 one per cent.",
            ),
        ],
    )
}
