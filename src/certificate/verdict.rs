//! The verdict of the certificate: what keeps `recruiters` from being removed. Pure code.

use super::document::{Certificate, Obstacle, Verdict};
use crate::counted::counted;

/// Kinds of loss that grow in `retired` because applications change and delete offers. There, the count of the last
/// verification says what `recruiters` held alone.
const MOVE_ON: [&str; 2] = ["jobs_without_offer", "employer_descriptions"];

/// Judges the other parts of the certificate.
#[must_use]
pub(super) fn judge(certificate: &Certificate) -> Verdict {
    let mut obstacles = Vec::new();
    let mut add = |name: &str, found: String| obstacles.push(Obstacle { obstacle: name.to_owned(), found });
    let phase = &certificate.phase;
    if phase.name != "retired" {
        add("not_retired", format!("the phase is {}", phase.name));
    }
    if phase.contradicted_by_tombstone {
        add("phase_contradicted", "a tombstone says retired, and the document of the phase does not".to_owned());
    }
    for to in ["dual-write", "shadow", "retired"] {
        let last = phase.history.iter().rfind(|step| step.to.as_deref() == Some(to));
        if let Some(step) = last.filter(|step| !step.overridden.is_empty()) {
            let at = step.at.as_deref().unwrap_or("an unknown time");
            add(
                "forced_step",
                format!(
                    "the step to {to} at {at} overrode {}",
                    counted(step.overridden.len(), "condition", "conditions")
                ),
            );
        }
    }
    verified(certificate, &mut add);
    let open = certificate.gaps.open;
    if open > 0 {
        add("open_gaps", format!("{} that no resync has repaired", counted(open, "gap", "gaps")));
    }
    let letters: u64 = certificate.dead_letters.values().sum();
    if letters > 0 {
        add("dead_letters", counted(letters, "dead letter stands", "dead letters stand"));
    }
    only_in_recruiters(certificate, &mut add);
    if phase.name == "retired" {
        match &certificate.late_writes {
            None => add("not_watched", "no leader has watched for writes since the step to retired".to_owned()),
            Some(late) => {
                if late.total > 0 {
                    add(
                        "late_writes",
                        format!("{} to recruiters since the step to retired", counted(late.total, "write", "writes")),
                    );
                }
                if let Some(from) = &late.unwatched_from {
                    add("uncounted_writes", format!("writes from {from} on were not counted for a while"));
                }
            }
        }
    }
    Verdict { may_be_removed: obstacles.is_empty(), obstacles }
}

/// The last verification must be of the phase before `retired`, of its last stay, and must have found nothing.
fn verified(certificate: &Certificate, add: &mut impl FnMut(&str, String)) {
    let Some(last) = &certificate.verification else {
        return add("not_verified", "there was no full verification".to_owned());
    };
    let phase = &certificate.phase;
    let retired = phase.history.iter().rposition(|step| step.to.as_deref() == Some("retired"));
    let before = if phase.name == "retired" { retired.unwrap_or_default() } else { phase.history.len() };
    let entered = phase.history.iter().take(before).next_back();
    let stay = entered.map_or((None, None), |step| (step.to.as_deref(), step.at.as_deref()));
    if last.phase.as_deref() != stay.0 || last.began.as_deref().map(millis) < stay.1.map(millis) {
        let [in_phase, at] = [&last.phase, &last.ended].map(|text| text.as_deref().unwrap_or("unknown"));
        add(
            "not_verified",
            format!("the last full verification was in {in_phase} at {at}, before the last phase change"),
        );
    }
    if last.differences != Some(0) {
        add(
            "differences",
            format!(
                "the last full verification found {}",
                counted(last.differences.unwrap_or(-1), "difference", "differences")
            ),
        );
    }
    if last.unsettled.is_some_and(|unsettled| unsettled > 0) {
        add("unsettled", "documents changed all the time during the last full verification".to_owned());
    }
    match &last.sides {
        None => {
            add("no_digests", "the last full verification stored no digests; run stream-processor verify".to_owned())
        }
        Some(sides) if !sides.agree() => {
            add("digests_differ", "the digests of the projected and of the stored offers differ".to_owned())
        }
        Some(_) => {}
    }
}

fn only_in_recruiters(certificate: &Certificate, add: &mut impl FnMut(&str, String)) {
    let at_verification = certificate.verification.as_ref().and_then(|last| last.only_in_recruiters.as_ref());
    if at_verification.is_none() {
        add("not_counted", "the last full verification did not count what exists in recruiters alone".to_owned());
    }
    let is_retired = certificate.phase.name == "retired";
    for (kind, now) in &certificate.only_in_recruiters {
        let now = if is_retired && MOVE_ON.contains(&kind.as_str()) { 0 } else { *now };
        let then = at_verification.and_then(|counts| counts.get(kind)).map_or(0, |count| count.unsigned_abs());
        if now.max(then) > 0 {
            add("only_in_recruiters", format!("{} {kind}", now.max(then)));
        }
    }
}

fn millis(text: &str) -> Option<i64> {
    bson::DateTime::parse_rfc3339_str(text).ok().map(bson::DateTime::timestamp_millis)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::document::Certificate;
    use super::super::document::tests::sample;
    use super::judge;

    fn obstacles(value: &Value) -> Vec<String> {
        let certificate = Certificate::parse(&value.to_string()).unwrap();
        let verdict = judge(&certificate);
        assert_eq!(verdict.may_be_removed, verdict.obstacles.is_empty());
        verdict.obstacles.into_iter().map(|one| one.obstacle).collect()
    }

    #[test]
    fn each_obstacle_is_found_alone_and_a_clean_certificate_has_none() {
        assert_eq!(obstacles(&sample()), Vec::<String>::new());
        let later = json!("2026-11-04T00:00:00Z");
        let cases = [
            ("/phase/contradicted_by_tombstone", json!(true), "phase_contradicted"),
            ("/phase/history/2/overridden", json!(["lag under 5 s"]), "forced_step"),
            ("/phase/history/1/overridden", json!(["lag under 5 s"]), "forced_step"),
            ("/verification", Value::Null, "not_verified"),
            ("/verification/phase", json!("dual-write"), "not_verified"),
            ("/verification/began", json!("2026-11-01T00:00:00Z"), "not_verified"),
            ("/verification/began", Value::Null, "not_verified"),
            ("/phase/history/2/at", later, "not_verified"),
            ("/verification/differences", json!(1), "differences"),
            ("/verification/differences", Value::Null, "differences"),
            ("/verification/unsettled", json!(1), "unsettled"),
            ("/verification/sides", Value::Null, "no_digests"),
            ("/verification/sides/stored/digest", json!("1".repeat(64)), "digests_differ"),
            ("/verification/only_in_recruiters", Value::Null, "not_counted"),
            ("/verification/only_in_recruiters/free_texts", json!(1), "only_in_recruiters"),
            ("/only_in_recruiters/free_texts", json!(1), "only_in_recruiters"),
            ("/gaps/open", json!(1), "open_gaps"),
            ("/dead_letters/missing_cfa", json!(1), "dead_letters"),
            ("/late_writes", Value::Null, "not_watched"),
            ("/late_writes/total", json!(1), "late_writes"),
            ("/late_writes/unwatched_from", json!("2026-11-05T00:00:00Z"), "uncounted_writes"),
        ];
        for (place, value, obstacle) in cases {
            let mut changed = sample();
            *changed.pointer_mut(place).unwrap() = value;
            let found = obstacles(&changed);
            assert!(found.contains(&obstacle.to_owned()), "{place}: {found:?}");
            // Without a verification nothing was counted either.
            assert!(found.len() == 1 || place == "/verification", "{place}: {found:?}");
        }
        let mut moved_on = sample();
        moved_on["only_in_recruiters"]["jobs_without_offer"] = json!(3);
        assert_eq!(obstacles(&moved_on), Vec::<String>::new(), "applications delete offers in retired");
        let mut not_retired = sample();
        not_retired["phase"]["name"] = json!("shadow");
        not_retired["phase"]["history"].as_array_mut().unwrap().pop();
        assert_eq!(obstacles(&not_retired), ["not_retired"]);
    }
}
