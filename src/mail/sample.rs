//! Messages with sample data, for `emails preview` and for the snapshot tests.

use bson::DateTime;

use super::email::{Email, EmailOffer, Establishment, Footer, Template};

/// A message with invented names and offers: several offers for [`Template::RemindJ7`], one offer for the others.
#[must_use]
pub(crate) fn email(template: Template) -> Email {
    // 09:20 in Paris. The offers expire at midnight, a week or a day later.
    let (now, days) = (1_783_495_200_000, if template == Template::RemindJ1 { 1 } else { 7 });
    let midnight = DateTime::from_millis(now - 33_600_000 + days * 24 * 3_600_000);
    let baker = offer(
        "Boulangerie : apprenti boulanger ou apprentie boulangère",
        Some("Boulanger / Boulangère"),
        "1",
        midnight,
    );
    let seller = offer("Vendeur ou vendeuse", None, "2", midnight);
    let pastry = offer("CAP pâtisserie, à partir de septembre", Some("Pâtissier / Pâtissière"), "3", midnight);
    let first = Establishment { name: "Au bon pain doré".to_owned(), offers: vec![baker.clone(), seller] };
    let second = Establishment { name: "Pâtisserie des Halles".to_owned(), offers: vec![pastry] };
    let establishments = match template {
        Template::RemindJ7 => vec![first, second],
        Template::RemindJ1 | Template::Introduction => vec![Establishment { offers: vec![baker], ..first }],
    };
    let space = "https://labonnealternance.apprentissage.beta.gouv.fr/espace-pro/authentification".to_owned();
    let footer = Footer {
        sender: "La bonne alternance".to_owned(),
        contact: "contact@example.com".to_owned(),
        privacy: "https://labonnealternance.apprentissage.beta.gouv.fr/politique-de-confidentialite".to_owned(),
    };
    let now = DateTime::from_millis(now);
    Email { template, person: "Camille Exemple".to_owned(), establishments, space, now, footer }
}

fn offer(title: &str, appellation: Option<&str>, number: &str, expires: DateTime) -> EmailOffer {
    let site = "https://labonnealternance.apprentissage.beta.gouv.fr/emploi/offres_emploi_lba";
    let space = "https://labonnealternance.apprentissage.beta.gouv.fr/espace-pro";
    EmailOffer {
        title: title.to_owned(),
        appellation: appellation.map(ToOwned::to_owned),
        contracts: "Apprentissage, Professionnalisation".to_owned(),
        level: "CAP, autres formations niveau (Infrabac)".to_owned(),
        start: "01/09/2026".to_owned(),
        published: "12/05/2026".to_owned(),
        expires: Some(expires),
        url: Some(format!("{site}/66000000000000000000000{number}/offre")),
        cancel: Some(format!("{space}/offre/offres_emploi_lba/66000000000000000000000{number}/cancel?token=exemple")),
        provided: Some(format!(
            "{space}/offre/offres_emploi_lba/66000000000000000000000{number}/provided?token=exemple"
        )),
        introduction: Some(format!("{space}/mise-en-relation/exemple/66000000000000000000000{number}?token=exemple")),
    }
}
