//! `offer_target_diploma` from `job_level_label` (spec 02, "offer_target_diploma").

/// The European level of a diploma label; `None` for any other label.
#[must_use]
pub(crate) fn european_level(label: &str) -> Option<&'static str> {
    match label {
        "Cap, autres formations (Infrabac)" => Some("3"),
        "BP, Bac, autres formations (Bac)" => Some("4"),
        "BTS, DEUST, autres formations (Bac+2)" => Some("5"),
        "Licence, Maîtrise, autres formations (Bac+3 à Bac+4)" => Some("6"),
        "Master, titre ingénieur, autres formations (Bac+5)" => Some("7"),
        _ => None,
    }
}
