//! Tests of every rule in `server_standing`, without a mail server.

use super::*;

fn held(address: &str, stage: SmtpStage, code: u16, words: &str) -> HeldRefusal {
    let reply = SmtpReply::new(stage, code, words);
    HeldRefusal {
        id: address.to_owned(),
        template: Template::RemindJ7,
        offers: Vec::new(),
        address: address.to_owned(),
        reply,
    }
}

fn ids(held: &[HeldRefusal]) -> Vec<&str> {
    held.iter().map(|held| held.id.as_str()).collect()
}

#[test]
fn a_refusal_is_about_its_recipient_once_another_message_passed_the_step() {
    let mut standing = Standing::default();
    standing.hold(held("a@x", SmtpStage::Recipient, 554, ""));
    standing.hold(held("b@x", SmtpStage::Data, 550, ""));
    standing.hold(held("c@x", SmtpStage::Content, 554, ""));
    assert!(standing.passed(SmtpStage::Sender).is_empty());
    assert_eq!(ids(&standing.passed(SmtpStage::Recipient)), ["a@x"]);
    assert_eq!(ids(&standing.passed(SmtpStage::Content)), ["b@x", "c@x"]);
    assert_eq!(standing.earlier_outcome("a@x"), Some(DeliveryOutcome::Deferred), "it is not asked again");
}

#[test]
fn where_all_are_refused_it_is_about_us() {
    for (stage, code, words) in [
        (SmtpStage::Recipient, 554, ""),
        (SmtpStage::Recipient, 550, "5.1.1"),
        (SmtpStage::Data, 550, ""),
        (SmtpStage::Content, 554, "5.7.1"),
    ] {
        let mut standing = Standing::default();
        standing.hold(held("a@x", stage, code, words));
        standing.hold(held("b@x", stage, code, words));
        assert!(!standing.is_down(), "too few to end a run early");
        let (own, ours) = standing.end();
        assert_eq!((own.len(), ids(&ours), standing.is_down()), (0, vec!["a@x", "b@x"], true), "{code} {words}");
    }
}

#[test]
fn one_refusal_alone_is_about_its_recipient_where_it_names_the_mailbox() {
    for (stage, code, words, own) in [
        (SmtpStage::Recipient, 550, "5.1.1", 1),
        (SmtpStage::Recipient, 550, "no such user", 1),
        (SmtpStage::Recipient, 550, "5.7.1", 0),
        (SmtpStage::Recipient, 554, "", 0),
        (SmtpStage::Data, 550, "", 0),
        (SmtpStage::Content, 550, "", 0),
    ] {
        let mut standing = Standing::default();
        standing.hold(held("a@x", stage, code, words));
        assert_eq!(standing.end().0.len(), own, "{code} {words}");
        assert_eq!(standing.is_down(), own == 0);
    }
}

#[test]
fn few_at_the_end_of_a_run_are_refused_for_themselves_and_many_are_not() {
    for (many, own) in [(IN_A_ROW - 1, IN_A_ROW - 1), (IN_A_ROW, 0)] {
        let mut standing = Standing::default();
        standing.passed(SmtpStage::Content);
        for number in 0..many {
            standing.hold(held(&format!("{number}@x"), SmtpStage::Recipient, 550, ""));
        }
        assert_eq!(standing.end().0.len(), own);
    }
}

#[test]
fn a_mailbox_that_is_named_is_believed_once_the_server_took_another_one() {
    let mut standing = Standing::default();
    let unknown = SmtpReply::new(SmtpStage::Recipient, 550, "5.1.1");
    assert!(!standing.vouches_for(unknown));
    standing.passed(SmtpStage::Recipient);
    assert!(standing.vouches_for(unknown) && !standing.vouches_for(SmtpReply::new(SmtpStage::Recipient, 550, "")));
}

#[test]
fn ten_domains_in_a_row_end_a_run_and_any_number_of_addresses_of_one_domain_do_not() {
    let mut standing = Standing::default();
    for number in 0..99 {
        standing.note(&format!("{number}@slow.example"), DeliveryOutcome::Deferred);
    }
    assert!(!standing.is_down() && !standing.is_patient("z@slow.example") && standing.is_patient("z@other.example"));
    for number in 0..8 {
        standing.note(&format!("a@{number}.example"), DeliveryOutcome::Deferred);
    }
    standing.note("a@slow.example", DeliveryOutcome::Sent);
    assert!(standing.is_patient("z@slow.example"), "it takes messages again");
    for number in 0..9 {
        standing.note(&format!("b@{number}.example"), DeliveryOutcome::Deferred);
        assert!(!standing.is_down());
    }
    standing.note("b@9.example", DeliveryOutcome::Deferred);
    assert!(standing.is_down());
}

#[test]
fn a_hundred_refusals_end_a_run_whatever_their_domain() {
    let mut standing = Standing::default();
    for number in 0..MOST_HELD {
        assert!(!standing.is_down(), "{number}");
        standing.hold(held(&format!("{number}@x"), SmtpStage::Recipient, 554, ""));
    }
    assert!(standing.is_down());
    assert_eq!(standing.end().1.len(), MOST_HELD);
}
