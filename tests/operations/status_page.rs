//! The status page in a real Chromium, and `/api/status`: the same values, with scripts and without; live, so that a
//! stopped stream is seen; nothing from elsewhere, nothing about people.

use regex::Regex;
use serde_json::Value;
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::browser::Browser;
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{end_lease, state};
use crate::support::waiting::{PATIENCE, caught_up, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_the_api_says_with_scripts_and_without() {
    let test = TestDatabase::create("page_values").await;
    let newcomers = [recruiter([job("Boulanger")]), recruiter([job("Pâtissier"), job("Vendeur")])];
    test.collection("recruiters").insert_many(newcomers).await.unwrap();
    let processor = started(&test).await;
    caught_up(&test.database).await;
    let (_, style) = processor.http_get("/style.css").await;
    assert!(!style.contains("//"), "nothing from elsewhere");

    eventually(PATIENCE, "the offers are counted", async || {
        let status = status(&processor).await;
        (status["counts"]["target_offers"]["Active"] == 3).then_some(())
    })
    .await;
    for with_scripts in [true, false] {
        let mut browser = Browser::open(&processor.url("/"), with_scripts);
        // Until nothing changes between the two.
        eventually(PATIENCE, "page and API agree", async || {
            browser.load(&processor.url("/"));
            let (status, page) = (status(&processor).await, browser.html());
            assert_eq!(browser.complaints, Vec::<String>::new());
            assert!(!page.contains(PERSONAL) && !status.to_string().contains(PERSONAL));
            let shown = shown(&page);
            assert!(shown.len() > 25, "{shown:?}");
            let paths: Vec<&str> = shown.iter().map(|(path, _)| path.as_str()).collect();
            for path in ["/lag_seconds", "/service/dead_letters", "/counts/documents/recruiters"] {
                assert!(paths.contains(&path), "{path} is shown");
            }
            let agree = shown.iter().all(|(path, value)| *value == text(status.pointer(path).unwrap()));
            agree.then_some(())
        })
        .await;
    }
}

/// What happened before this process began, on an instance that never led.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_shows_what_happened_before_it_began() {
    let test = TestDatabase::create("page_timeline").await;
    let reset = ["tokens", "reset", "--force", "--reason", PERSONAL];
    assert_eq!(Processor::command(&reset, &test, &[]).await.code, 0);
    let leader = started(&test).await;
    let standby = Processor::start_ready(&test, &[]).await;
    eventually(PATIENCE, "the events are on the page", async || {
        let (status, page) = (status(&standby).await, standby.http_get("/").await.1);
        let events = status["service"]["events"].as_array()?.clone();
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
        assert!(!page.contains(PERSONAL));
        let is_shown = page.contains(">position moved</data>") && page.contains(">leadership</data>");
        (kinds.last() == Some(&"position_moved") && kinds.contains(&"leadership") && is_shown).then_some(())
    })
    .await;
    drop(leader);
}

/// The minutes that the leader before stored are on the charts of the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_shows_the_time_before_it_led() {
    let test = TestDatabase::create("page_history").await;
    let mut first = started(&test).await;
    let minutes = eventually(PATIENCE, "a minute is stored", async || {
        let stored = state(&test.database, "minutes").await?;
        Some(stored.get_array("minutes").unwrap().clone())
    })
    .await;
    let stored = minutes[0].as_document().unwrap();
    let (at, lag) = (stored.get_datetime("at").unwrap().timestamp_millis() / 1_000, stored.get_f64("lag").unwrap());
    first.sigkill();
    end_lease(&test.database).await;
    let second = Processor::start_ready(&test, &[]).await;
    eventually(PATIENCE, "it shows the minute", async || {
        let history = &status(&second).await["history"];
        let (ends, lags) = (history["ends_at"].as_i64()?, history["lag_seconds"].as_array()?);
        let back = usize::try_from((ends - at) / 5).ok()? + 1;
        let shown = &lags[lags.len().checked_sub(back)?];
        (history["events_per_second"].as_array()?.len() == lags.len() && shown.as_f64() == Some(lag)).then_some(())
    })
    .await;
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stream_and_a_dead_service_are_seen_on_a_page_that_stays_open() {
    let mut set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "page_live").await;
    let mut processor = Processor::start_ready(&test, &[]).await;
    let mut browser = Browser::open(&processor.url("/"), true);
    until_headline(&mut browser, "it is well", |headline| headline == "In step").await;

    set.member(0).signal(Signal::Stop);
    until_headline(&mut browser, "the stopped stream is seen", |headline| headline != "In step").await;
    set.member(0).signal(Signal::Continue);
    until_headline(&mut browser, "it is well again", |headline| headline == "In step").await;

    processor.sigkill();
    eventually(PATIENCE, "the silence of the service is seen", async || {
        let alarm = browser.evaluate("document.querySelector('[role=alert]:not([hidden])')?.textContent");
        alarm.as_str().is_some_and(|alarm| alarm.starts_with("No answer")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_a_phone_and_can_be_used_with_a_keyboard() {
    let test = TestDatabase::create("page_access").await;
    let processor = started(&test).await;
    eventually(PATIENCE, "every part has something to show", async || {
        let status = status(&processor).await;
        (status["counts"].is_object() && status["service"].is_object()).then_some(())
    })
    .await;
    let mut browser = Browser::open(&processor.url("/"), true);
    for (width, is_dark) in [(320, false), (320, true), (1600, false)] {
        browser.resize(width, is_dark);
        let needed = browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(needed <= u64::from(width), "{needed} of {width} pixels");
    }
    let light = "getComputedStyle(document.body).backgroundColor";
    let dark = browser.resize_and_evaluate(true, light);
    assert_ne!(browser.resize_and_evaluate(false, light), dark);
    let named = "[...document.querySelectorAll('a, [tabindex]')]\
        .every((one) => one.textContent.trim() || one.getAttribute('aria-label'))";
    assert_eq!(browser.evaluate(named), Value::Bool(true), "what can be reached has a name");

    eventually(PATIENCE, "the chart has a value to read out", async || {
        let key = "document.querySelector('#lag svg').focus();\
            document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', bubbles: true }));\
            document.querySelector('#lag output').textContent";
        let of_the_page = [" CET: lag ", " CEST: lag "];
        let value = browser.evaluate(key);
        value.as_str().is_some_and(|text| of_the_page.iter().any(|part| text.contains(part))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_forbids_what_the_page_does_not_need_and_nothing_can_be_done_over_http() {
    let test = TestDatabase::create("page_headers").await;
    let processor = started(&test).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/", "/api/status", "/metrics", "/readyz", "/script.js", "/icon/ok.svg", "/nothing"] {
        let answer = http.get(processor.url(path)).send().await.unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let refused = http.request(method, processor.url(path)).send().await.unwrap();
            assert!(refused.status().is_client_error(), "{path}");
        }
    }
}

async fn status(processor: &Processor) -> Value {
    serde_json::from_str(&processor.http_get("/api/status").await.1).unwrap()
}

/// Path and value of every `<data>` of the page.
fn shown(page: &str) -> Vec<(String, String)> {
    let data = Regex::new(r#"<data data-path="([^"]+)" value="([^"]*)">"#).unwrap();
    data.captures_iter(page).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

/// A value of the API as the page carries it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        // JSON writes 0.0 where Rust writes 0.
        Value::Number(number) => number.as_f64().unwrap().to_string(),
        other => panic!("{other} is no value"),
    }
}

async fn until_headline(browser: &mut Browser, what: &str, wanted: impl Fn(&str) -> bool) {
    eventually(PATIENCE, what, async || {
        let headline = browser.evaluate("document.querySelector('h1').textContent");
        headline.as_str().is_some_and(&wanted).then_some(())
    })
    .await;
}
