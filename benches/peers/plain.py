"""The plain way to keep the offers in step, as a Python developer would write it in a day: PyMongo's change stream with
the newest document, one `replace_one` for each job, and the token after each batch. `cargo xtask bench --only peers`
measures it, and `docs/performance.md` says what it does not guarantee. It projects the same fields as `plain.rs`."""

import os
import re
from datetime import datetime, timezone

from pymongo import MongoClient

# The token is saved after this many events, and earlier when no event is waiting.
BATCH = 100

DIPLOMAS = {
    "Cap, autres formations (Infrabac)": "3",
    "BP, Bac, autres formations (Bac)": "4",
    "BTS, DEUST, autres formations (Bac+2)": "5",
    "Licence, Maîtrise, autres formations (Bac+3 à Bac+4)": "6",
    "Master, titre ingénieur, autres formations (Bac+5)": "7",
}
STATUSES = {"Active": "Active", "Pourvue": "Filled"}


def main():
    database = MongoClient(os.environ["MONGODB_URI"])[os.environ["MONGODB_DATABASE"]]
    offers = database["jobs_partners"]
    states = database["peer_state"]
    saved = states.find_one({"_id": "token"})
    token = saved["token"] if saved else None
    with database["recruiters"].watch(full_document="updateLookup", resume_after=token) as events:
        while events.alive:
            applied = 0
            while applied < BATCH:
                event = events.try_next()
                if event is None:
                    break
                if event.get("fullDocument"):
                    apply(offers, event["fullDocument"])
                applied += 1
            if applied:
                states.replace_one({"_id": "token"}, {"token": events.resume_token}, upsert=True)


def apply(offers, recruiter):
    if not recruiter.get("address"):
        return
    for job in recruiter.get("jobs") or []:
        offer = of_recruiter(recruiter) | of_job(recruiter, job)
        # Without the rule of the platform for breaks inside of words.
        slug = "-".join(re.findall(r"[^\W_]+", offer["offer_title"].lower()))
        offer["lba_url"] = f"http://localhost:3000/emploi/offres_emploi_lba/{job['_id']}/{slug}"
        offers.replace_one({"_id": job["_id"]}, offer, upsert=True)


def of_recruiter(recruiter):
    detail = recruiter.get("address_detail")
    detail = detail if isinstance(detail, dict) else {}
    names = [recruiter.get("establishment_raison_sociale"), recruiter.get("establishment_enseigne")]
    return {
        "partner_label": "RECRUTEURS_LBA",
        "is_delegated": recruiter.get("is_delegated") or False,
        "workplace_legal_name": first(names, "Enseigne inconnue"),
        "workplace_brand": recruiter.get("establishment_enseigne"),
        "workplace_siret": recruiter.get("establishment_siret"),
        "workplace_geopoint": recruiter.get("geopoint"),
        "workplace_address_label": recruiter.get("address"),
        "workplace_address_zipcode": detail.get("code_postal"),
        "workplace_address_city": first([detail.get("localite"), detail.get("libelle_commune")], ""),
        "workplace_opco": recruiter.get("opco"),
        "workplace_idcc": recruiter.get("idcc"),
        "workplace_naf_code": recruiter.get("naf_code"),
        "workplace_naf_label": recruiter.get("naf_label"),
        "workplace_size": recruiter.get("establishment_size"),
        "apply_email": recruiter.get("email"),
        "apply_phone": recruiter.get("phone"),
        "offer_origin": recruiter.get("origin"),
        "managed_by": recruiter.get("managed_by"),
        "establishment_id": recruiter.get("establishment_id"),
        "recruiter_status": recruiter.get("status"),
        "contract_is_disabled_elligible": False,
        "offer_access_conditions": [],
        "cfa_siret": None,
        "cfa_legal_name": None,
        "cfa_address_label": None,
        "cfa_apply_email": None,
        "cfa_apply_phone": None,
        "stats_detail_view": 0,
        "stats_search_view": 0,
        "stats_postuler": 0,
        "offer_status_history": [],
        "offer_multicast": True,
        "contract_remote": None,
        "workplace_address_street_label": None,
        "workplace_name": None,
        "workplace_website": None,
        "apply_url": None,
    }


def of_job(recruiter, job):
    now = datetime.now(timezone.utc)
    skills = job.get("competences_rome") or {}
    level = job.get("job_level_label")
    is_active = recruiter.get("status") == "Actif"
    dates = [job.get("job_update_date"), recruiter.get("updatedAt"), job.get("job_creation_date")]
    titles = [job.get("offer_title_custom"), job.get("rome_appellation_label"), job.get("rome_label")]
    duration = job.get("job_duration")
    return {
        "partner_job_id": str(job["_id"]),
        "created_at": first([job.get("job_creation_date")], now),
        "updated_at": first(dates, now),
        "job_status_comment": job.get("job_status_comment"),
        "job_delegation_count": job.get("job_delegation_count"),
        "delegations": job.get("delegations"),
        "contract_start": job.get("job_start_date"),
        "contract_duration": None if duration is None else int(duration),
        "contract_type": first([job.get("job_type")], ["Apprentissage", "Professionnalisation"]),
        "contract_rythm": job.get("job_rythm"),
        "offer_target_diploma": {"european": DIPLOMAS[level], "label": level} if level in DIPLOMAS else None,
        "offer_desired_skills": [entry.get("libelle") for entry in skills.get("savoir_etre_professionnel") or []],
        "offer_to_be_acquired_skills": paired_labels(skills, "savoir_faire"),
        "offer_to_be_acquired_knowledge": paired_labels(skills, "savoirs"),
        "offer_title": first(titles, "Offre"),
        "offer_rome_codes": job.get("rome_code"),
        "offer_rome_appellation": job.get("rome_appellation_label"),
        "offer_description": first([job.get("job_description")], ""),
        "workplace_description": job.get("job_employer_description"),
        "offer_creation": job.get("job_creation_date"),
        "offer_expiration": job.get("job_expiration_date"),
        "offer_status": STATUSES.get(job.get("job_status"), "Cancelled") if is_active else "Cancelled",
        "offer_opening_count": job.get("job_count") or 1,
        "relance_mail_expiration_J7": job.get("relance_mail_expiration_J7"),
        "relance_mail_expiration_J1": job.get("relance_mail_expiration_J1"),
        "job_last_prolongation_date": job.get("job_last_prolongation_date"),
        "job_prolongation_count": job.get("job_prolongation_count") or 0,
        "mer_sent": job.get("mer_sent"),
    }


def paired_labels(skills, field):
    return [
        f"{category.get('libelle')}\t{item.get('libelle')}"
        for category in skills.get(field) or []
        for item in category.get("items") or []
    ]


def first(values, otherwise):
    return next((value for value in values if value not in (None, "")), otherwise)


if __name__ == "__main__":
    main()
