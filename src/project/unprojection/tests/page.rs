//! `docs/unprojection.md` shows the table as it is.

use std::fmt::Write as _;

use super::super::edit::Place;
use super::super::table::TABLE;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::project::WRITTEN;

const PAGE: &str = include_str!("../../../../docs/unprojection.md");

fn place(place: Place) -> String {
    match place {
        Place::Job(name) => format!("job `{name}`"),
        Place::Recruiter(name) => format!("recruiter `{name}`"),
    }
}

#[test]
fn the_page_of_the_team_shows_the_table() {
    let mut shown = "| offer field | goes to | remark |\n| --- | --- | --- |\n".to_owned();
    for row in &TABLE {
        let places: Vec<String> = row.places().map(place).collect();
        let places = if places.is_empty() { "cannot come back".to_owned() } else { places.join(", ") };
        let leaders: Vec<String> = row.follows.iter().map(|leader| format!("`{leader}`")).collect();
        let follows = format!("It follows {}.", leaders.join(" and "));
        let remarks = [(!leaders.is_empty()).then_some(follows.as_str()), Some(row.remark)];
        let remarks = remarks.into_iter().flatten().filter(|remark| !remark.is_empty());
        writeln!(shown, "| `{}` | {places} | {} |", row.field, remarks.collect::<Vec<_>>().join(" ")).unwrap();
    }
    let shown = shown.replace("|  |", "| |");
    assert!(PAGE.contains(&shown), "docs/unprojection.md needs this table:\n{shown}");
}

#[test]
fn the_table_has_every_field_of_the_projection_in_its_order_and_names_fields_that_the_projection_reads() {
    assert!(TABLE.iter().map(|row| row.field).eq(WRITTEN.iter().map(|name| name.as_str())));
    let of_job: Vec<&str> = JobFields::default().named().map(|(name, _)| name.as_str()).collect();
    let of_recruiter: Vec<&str> = RecruiterFields::default().named().map(|(name, _)| name.as_str()).collect();
    for row in &TABLE {
        for place in row.places() {
            let (known, name) = match place {
                Place::Job(name) => (&of_job, name),
                Place::Recruiter(name) => (&of_recruiter, name),
            };
            assert!(known.contains(&name.split('.').next().unwrap()), "{name} of {}", row.field);
        }
    }
}
