//! The checks of the settings about links in e-mails (spec 09, "Links in e-mails"): patterns with places in braces, the
//! key of the tokens, the URI for `List-Unsubscribe`.

use url::Url;

/// The place of the public site's URL, which every pattern may name at its beginning.
const SITE: &str = "{public_url}";

/// Accepts a pattern that names all these places and no others. In place of `{token}`, `?token=` is enough.
pub(super) fn pattern(text: &str, places: &[&str]) -> Result<String, String> {
    let mut filled = text.replacen(SITE, "https://site.example.com", 1);
    for place in places {
        let named = format!("{{{place}}}");
        if *place == "token" && !text.contains(&named) && text.contains("?token=") {
            continue;
        }
        if !text.contains(&named) {
            return Err(format!("does not name `{named}`"));
        }
        filled = filled.replace(&named, "0");
    }
    if filled.contains(['{', '}']) {
        return Err("names a place that this link does not have".to_owned());
    }
    let url = Url::parse(&filled).map_err(|error| format!("is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() {
        return Err("is not a URL of the web".to_owned());
    }
    Ok(text.to_owned())
}

/// Accepts a URI for the header `List-Unsubscribe` (RFC 2369, 3.2).
pub(super) fn unsubscription(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URI ({error})"))?;
    if !matches!(url.scheme(), "https" | "mailto") {
        return Err("has a wrong scheme".to_owned());
    }
    if text.contains(|character: char| !character.is_ascii_graphic() || matches!(character, '<' | '>' | ',')) {
        return Err("has a character that must be encoded".to_owned());
    }
    Ok(text.to_owned())
}

/// Accepts a key that is long enough. The error does not repeat the key.
pub(super) fn signing_key(text: &str, min: usize) -> Result<String, String> {
    if text.len() < min { Err("is too short for a signing key".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_its_places_and_no_others() {
        let places = ["job", "token"];
        for right in
            ["{public_url}/{job}?token={token}", "https://example.com/{job}/x?token=", "{public_url}/{job}/{token}"]
        {
            assert_eq!(pattern(right, &places).as_deref(), Ok(right));
        }
        for (wrong, reason) in [
            ("{public_url}/x?token={token}", "does not name `{job}`"),
            ("{public_url}/{job}", "does not name `{token}`"),
            ("{public_url}/{job}/{user}?token=", "names a place that this link does not have"),
            ("ftp://example.com/{job}?token=", "is not a URL of the web"),
            ("/{job}?token=", "is not a URL (relative URL without a base)"),
        ] {
            assert_eq!(pattern(wrong, &places).unwrap_err(), reason, "{wrong}");
        }
        assert!(pattern("{public_url}/espace-pro", &[]).is_ok());
    }

    #[test]
    fn a_way_to_unsubscribe_is_a_uri_that_a_header_can_hold() {
        assert!(unsubscription("https://example.com/off?x=1").is_ok());
        assert!(unsubscription("mailto:off@example.com?subject=off").is_ok());
        for wrong in ["http://example.com", "off@example.com", "https://example.com/a>b", "https://example.com/a, b"] {
            assert!(unsubscription(wrong).is_err(), "{wrong}");
        }
    }
}
