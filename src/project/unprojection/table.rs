//! The table of the unprojection, field by field, in the order of the projection's table. `docs/unprojection.md` shows it.

use super::asked::Asked;
use super::edit::{Edit, Place};
use super::{rules, skills};

/// One field of the offer.
pub(super) struct Row {
    /// Its name in the offer.
    pub field: &'static str,
    pub way: Way,
    /// Other fields of the offer that decide about this one too. Where one of them comes back, this one may have to follow.
    pub follows: &'static [&'static str],
    /// For the page of the team.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares it with the page"))]
    pub remark: &'static str,
}

/// The way back of a field.
pub(super) enum Way {
    /// The value goes to this place as it is.
    Copy(Place),
    /// The rule says what goes to these places.
    Rule(&'static [Place], fn(&Asked<'_>) -> Option<Vec<Edit>>),
    /// There is none.
    Nowhere,
}

impl Row {
    /// The edits that should bring the field about; `None` when the value has no way back.
    pub(super) fn edits(&self, asked: &Asked<'_>) -> Option<Vec<Edit>> {
        match self.way {
            Way::Copy(place) => Some(vec![Edit { place, value: asked.value.clone() }]),
            Way::Rule(_, rule) => rule(asked),
            Way::Nowhere => None,
        }
    }

    /// Where the field can go.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let (one, several) = match &self.way {
            Way::Copy(place) => (Some(*place), &[][..]),
            Way::Rule(places, _) => (None, *places),
            Way::Nowhere => (None, &[][..]),
        };
        one.into_iter().chain(several.iter().copied())
    }

    const fn follows(mut self, leaders: &'static [&'static str]) -> Self {
        self.follows = leaders;
        self
    }
}

const fn job(field: &'static str, name: &'static str, remark: &'static str) -> Row {
    Row { field, way: Way::Copy(Place::Job(name)), follows: &[], remark }
}

const fn recruiter(field: &'static str, name: &'static str, remark: &'static str) -> Row {
    Row { field, way: Way::Copy(Place::Recruiter(name)), follows: &[], remark }
}

const fn rule(
    field: &'static str,
    places: &'static [Place],
    rule: fn(&Asked<'_>) -> Option<Vec<Edit>>,
    remark: &'static str,
) -> Row {
    Row { field, way: Way::Rule(places, rule), follows: &[], remark }
}

const fn nowhere(field: &'static str, remark: &'static str) -> Row {
    Row { field, way: Way::Nowhere, follows: &[], remark }
}

/// The fields whose places other fields come from too. They go back first. A field that is right then needs no edit of its
/// own: a contact that is gone with the delegation must not be removed from the recruiter.
pub(super) const DECIDING: [&str; 5] =
    ["is_delegated", "cfa_siret", "recruiter_status", "workplace_brand", "offer_rome_appellation"];

/// All fields that the projection writes, in its order.
pub(super) static TABLE: [Row; 55] = [
    nowhere("partner_label", "The configuration gives it."),
    nowhere("partner_job_id", "It is the `_id` of the job."),
    rule(
        "created_at",
        &[Place::Job("job_creation_date")],
        rules::created_at,
        "A job has one date of creation, and `offer_creation` says it. Only an offer without that field says it here.",
    )
    .follows(&["offer_creation"]),
    job(
        "updated_at",
        "job_update_date",
        "So newest wins compares the same date on both sides. Under a recruiter that is not active, a date before the \
         recruiter's `updatedAt` cannot come back.",
    )
    .follows(&["recruiter_status"]),
    recruiter("is_delegated", "is_delegated", "Null cannot come back: the projection gives false."),
    job("job_status_comment", "job_status_comment", "An empty text cannot come back: the projection gives null."),
    job("job_delegation_count", "job_delegation_count", "Zero cannot come back: the projection gives null."),
    job(
        "delegations",
        "delegations",
        "A text that is a date, and the address of an anonymised user, cannot come back.",
    ),
    job("contract_start", "job_start_date", ""),
    job("contract_duration", "job_duration", ""),
    job("contract_type", "job_type", "Null cannot come back: the projection gives both types."),
    nowhere("contract_is_disabled_elligible", "The engagement of the establishment gives it."),
    job("contract_rythm", "job_rythm", ""),
    recruiter(
        "workplace_legal_name",
        "establishment_raison_sociale",
        "Null and an empty text cannot come back: the projection gives the brand or `Enseigne inconnue`.",
    ),
    recruiter("workplace_brand", "establishment_enseigne", ""),
    recruiter("workplace_siret", "establishment_siret", ""),
    rule(
        "workplace_geopoint",
        &[Place::Recruiter("geopoint"), Place::Recruiter("geo_coordinates")],
        rules::geopoint,
        "A recruiter with `geo_coordinates` has them changed too, so that both say the same.",
    ),
    rule(
        "workplace_address_label",
        &[Place::Recruiter("address")],
        rules::address,
        "Null and an empty text cannot come back: a recruiter without address is not projected.",
    ),
    recruiter(
        "workplace_address_zipcode",
        "address_detail.code_postal",
        "An `address_detail` that is no object becomes one.",
    ),
    rule(
        "workplace_address_city",
        &[
            Place::Recruiter("establishment_location"),
            Place::Recruiter("address_detail.localite"),
            Place::Recruiter("address_detail.libelle_commune"),
        ],
        rules::city,
        "It goes where the projection takes it from.",
    ),
    recruiter("workplace_opco", "opco", ""),
    recruiter("workplace_idcc", "idcc", ""),
    recruiter("workplace_naf_code", "naf_code", ""),
    recruiter("workplace_naf_label", "naf_label", ""),
    recruiter("workplace_size", "establishment_size", ""),
    recruiter(
        "apply_email",
        "email",
        "The contact of a delegated recruiter is that of the CFA's user and cannot come back, nor can a contact come back \
         where the user is anonymised.",
    ),
    recruiter("apply_phone", "phone", "As `apply_email`."),
    recruiter("offer_origin", "origin", ""),
    rule(
        "offer_target_diploma",
        &[Place::Job("job_level_label")],
        rules::diploma,
        "Its label, where the level is that of the label. Null is `Indifférent`.",
    ),
    rule(
        "offer_desired_skills",
        &[Place::Job("competences_rome.savoir_etre_professionnel")],
        skills::desired_skills,
        "Elements with the same label keep their other fields. `competences_rome` is written whole.",
    ),
    rule(
        "offer_to_be_acquired_skills",
        &[Place::Job("competences_rome.savoir_faire")],
        skills::acquired_skills,
        "As `offer_desired_skills`. A text without a tab cannot come back.",
    ),
    rule(
        "offer_to_be_acquired_knowledge",
        &[Place::Job("competences_rome.savoirs")],
        skills::acquired_knowledge,
        "As `offer_to_be_acquired_skills`.",
    ),
    nowhere("offer_access_conditions", "The ROME sheet gives them."),
    job("offer_title", "offer_title_custom", "Null cannot come back: the projection gives the label of the ROME code."),
    job(
        "offer_rome_codes",
        "rome_code",
        "With another first code there is another ROME sheet. What the job took from the sheet is then written into the \
         job: `offer_description` and the three lists of skills.",
    ),
    job("offer_rome_appellation", "rome_appellation_label", ""),
    job("offer_description", "job_description", "Null cannot come back: the projection gives the ROME sheet's text."),
    job("offer_creation", "job_creation_date", ""),
    job("offer_expiration", "job_expiration_date", ""),
    rule(
        "offer_status",
        &[Place::Job("job_status")],
        rules::status,
        "The table of the projection read backwards. What a recruiter that is not active, or an anonymised or deactivated \
         user, forces cannot come back, nor can `Pending` where the target's schema does not have it.",
    )
    .follows(&["recruiter_status"]),
    job("offer_opening_count", "job_count", "Null cannot come back: the projection gives 1."),
    nowhere("lba_url", "It is made from the `_id` and the title.").follows(&["offer_title", "offer_rome_appellation"]),
    rule(
        "cfa_siret",
        &[Place::Recruiter("cfa_delegated_siret")],
        rules::cfa_siret,
        "The SIRET of a CFA that was looked up, or null.",
    ),
    nowhere("cfa_legal_name", "The CFA gives it."),
    nowhere("cfa_address_label", "The CFA gives it."),
    nowhere("cfa_apply_email", "The CFA's user gives it."),
    nowhere("cfa_apply_phone", "The CFA's user gives it."),
    rule(
        "managed_by",
        &[Place::Recruiter("managed_by")],
        rules::managed_by,
        "The user in the type that the recruiter has. Two spellings of one user are no difference.",
    ),
    recruiter("establishment_id", "establishment_id", ""),
    recruiter("recruiter_status", "status", "It may force `offer_status`; then that field cannot come back."),
    job("relance_mail_expiration_J7", "relance_mail_expiration_J7", ""),
    job("relance_mail_expiration_J1", "relance_mail_expiration_J1", ""),
    job("job_last_prolongation_date", "job_last_prolongation_date", ""),
    job("job_prolongation_count", "job_prolongation_count", "Null cannot come back: the projection gives 0."),
    job("mer_sent", "mer_sent", ""),
];
