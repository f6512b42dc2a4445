//! Messages with sample data, for `emails preview` and for the snapshot tests.

use super::email::{Email, EmailOffer, Establishment, Template};

/// A message with invented names and offers: several offers for [`Template::RemindJ7`], one offer for the others.
#[must_use]
pub(crate) fn email(template: Template) -> Email {
    let baker = offer("Boulangerie : apprenti boulanger ou apprentie boulangère", Some("Boulanger / Boulangère"), "1");
    let seller = offer("Vendeur ou vendeuse", None, "2");
    let pastry = offer("CAP pâtisserie, à partir de septembre", Some("Pâtissier / Pâtissière"), "3");
    let first = Establishment { name: "Au bon pain doré".to_owned(), offers: vec![baker.clone(), seller] };
    let second = Establishment { name: "Pâtisserie des Halles".to_owned(), offers: vec![pastry] };
    let establishments = match template {
        Template::RemindJ7 => vec![first, second],
        Template::RemindJ1 | Template::Introduction => vec![Establishment { offers: vec![baker], ..first }],
    };
    let space = "https://labonnealternance.apprentissage.beta.gouv.fr/espace-pro/authentification".to_owned();
    Email { template, person: "Camille Exemple".to_owned(), establishments, space }
}

fn offer(title: &str, appellation: Option<&str>, number: &str) -> EmailOffer {
    let site = "https://labonnealternance.apprentissage.beta.gouv.fr/emploi/offres_emploi_lba";
    EmailOffer {
        title: title.to_owned(),
        appellation: appellation.map(ToOwned::to_owned),
        contracts: "Apprentissage, Professionnalisation".to_owned(),
        level: "CAP, autres formations niveau (Infrabac)".to_owned(),
        start: "01/09/2026".to_owned(),
        published: "12/05/2026".to_owned(),
        url: Some(format!("{site}/66000000000000000000000{number}/offre")),
    }
}
