//! Tests of `email_links`: what the links look like. `tests/jobs/mail/links.rs` checks the tokens with another library.

use bson::oid::ObjectId;
use secrecy::SecretString;

use super::*;

const SITE: &str = "https://site.example.com";

fn settings(key: Option<&str>) -> LinksSettings {
    LinksSettings {
        key: key.map(SecretString::from),
        space: "{public_url}/log-in".to_owned(),
        cancel: "{public_url}/{job}/cancel?token={token}".to_owned(),
        provided: "https://other.example.com/{job}?token=&from=mail".to_owned(),
        introduction: "{public_url}/{establishment_id}/{job}?token={token}".to_owned(),
        privacy: "{public_url}/privacy".to_owned(),
    }
}

fn user(address: &str) -> LinkUser<'_> {
    LinkUser { id: UserId(ObjectId::from_bytes([1; 12])), address }
}

fn job() -> JobId {
    JobId(ObjectId::from_bytes([2; 12]))
}

#[test]
fn a_pattern_is_filled_with_site_ids_and_token() {
    let settings = settings(Some("a key of thirty-two bytes or more"));
    let links = Links::new(&settings, SITE, DateTime::from_millis(0));
    let id = job();
    assert_eq!(links.space(), "https://site.example.com/log-in");
    let cancel = links.cancel(user("a@example.com"), id).unwrap();
    assert!(cancel.starts_with(&format!("{SITE}/{id}/cancel?token=eyJ")), "{cancel}");
    let provided = links.provided(user("a@example.com"), id).unwrap();
    assert!(provided.starts_with(&format!("https://other.example.com/{id}?token=eyJ")), "{provided}");
    assert!(provided.ends_with("&from=mail"), "{provided}");
    let introduction = links.introduction(user("a@example.com"), id, "a b/c").unwrap();
    assert!(introduction.starts_with(&format!("{SITE}/a%20b%2Fc/{id}?token=eyJ")), "{introduction}");
}

#[test]
fn there_is_no_link_without_a_key_and_none_of_2083_characters() {
    let without = settings(None);
    let links = Links::new(&without, SITE, DateTime::from_millis(0));
    assert_eq!(links.cancel(user("a@example.com"), job()), None);
    let with = settings(Some("a key of thirty-two bytes or more"));
    let links = Links::new(&with, SITE, DateTime::from_millis(0));
    let lengths = (1..2000).filter_map(|length| links.cancel(user(&"a".repeat(length)), job())).map(|link| link.len());
    let longest = lengths.max().unwrap();
    assert!((2070..2083).contains(&longest), "{longest}");
    // An address has 254 characters at most (RFC 5321, 4.5.3.1.3).
    let address = "a".repeat(254);
    assert!(links.introduction(user(&address), job(), &"0".repeat(36)).is_some());
}
