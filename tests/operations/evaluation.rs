//! The tests' own evaluation of the specification gives exactly the golden expectations: only then may other tests
//! measure the product with it. No service runs here.

use std::collections::BTreeMap;

use bson::Document;
use bson::oid::ObjectId;

use crate::support::database::TestDatabase;
use crate::support::evaluation::{Evaluation, Rules, Source, at_creation, evaluate};
use crate::support::golden::{self, Expectation, after_inserts, after_operations, operations};
use crate::support::offers;

#[tokio::test(flavor = "multi_thread")]
async fn the_independent_evaluation_gives_exactly_the_golden_expectations() {
    let test = TestDatabase::create("evaluation").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    let before = evaluate(&Source::read(&test.database).await, &Rules::default());
    assert_equal(&before, &after_inserts());

    for operation in operations() {
        operation.apply(&test.database).await;
    }
    let after = evaluate(&Source::read(&test.database).await, &Rules::default());
    assert_equal(&after, &after_operations());
    assert_eq!(after.anonymised, after_operations().anonymised_if_present);
    // The golden list names only those whose offer was surely written and whose recruiter stayed.
    let cancelled = after_operations().cancelled_if_present;
    assert!(cancelled.iter().all(|job| !after.job_owners.contains_key(job) && !after.anonymised.contains(job)));
}

fn assert_equal(evaluation: &Evaluation, expectation: &Expectation) {
    let expected = expectation.offers.iter().map(|offer| {
        let mut offer = offer.clone();
        for of_creation in ["offer_status_history", "workplace_description"] {
            offer.remove(of_creation);
        }
        (offer.get_object_id("_id").unwrap(), offer)
    });
    let expected: BTreeMap<ObjectId, Document> = expected.collect();
    let evaluated = evaluation.job_owners.iter().filter_map(|(id, owners)| {
        assert_eq!(owners.len(), 1, "{id} is held by one recruiter");
        let mut offer = owners[0].offer.clone()?;
        offer.extend(at_creation());
        Some((*id, offer))
    });
    offers::assert_same(&expected, &evaluated.collect());

    let by_job = |(dead_letter, reason): (&String, &String)| {
        let job = ObjectId::parse_str(dead_letter.rsplit('/').next().unwrap()).unwrap();
        (job, reason.clone())
    };
    let dead_letters: BTreeMap<ObjectId, String> = evaluation.dead_letters.iter().map(by_job).collect();
    assert_eq!(dead_letters, expectation.dead_letters);
    assert_eq!(evaluation.skipped, expectation.skipped);
}
