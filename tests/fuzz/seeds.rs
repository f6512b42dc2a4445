//! Writes what the fuzzer begins with: the golden recruiters, and an event and a token of each known kind. From random
//! bytes alone it would hardly ever find a document.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use bson::oid::ObjectId;
use bson::{DateTime, Document, Timestamp, doc};

const TOKENS: [&str; 3] =
    ["82650F1A2B000000012B0229296E04", "82650F1A2B000000012B042C0100296E04", "82650F1A2B00000001"];

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = fs::File::open(here.join("../golden/recruiters.ejson.gz")).unwrap();
    let lines = BufReader::new(flate2::read::GzDecoder::new(golden)).lines();
    let recruiters = lines.take(100).map(|line| {
        let value: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let bson::Bson::Document(recruiter) = value.try_into().unwrap() else { panic!("a line is a document") };
        bytes(&recruiter)
    });
    write(&here.join("corpus/recruiter"), recruiters);
    let crons = ["15 0 * * *", "*/15 * * * *", "0 30 2 * * MON-FRI", "0 0 L * *", "5,10-20/3 1 1W 2 5#3", "@daily"];
    write(&here.join("corpus/cron"), crons.iter().map(|cron| cron.as_bytes().to_vec()));
    let operations = ["insert", "update", "replace", "delete", "drop", "rename", "dropDatabase", "invalidate"];
    write(&here.join("corpus/event"), operations.iter().map(|operation| bytes(&event(operation))));
    let tokens = TOKENS.iter().map(|token| token.as_bytes().to_vec());
    let documents = TOKENS.iter().map(|token| {
        bytes(&doc! { "_data": *token, "_typeBits": bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1] } })
    });
    let checkpoint = format!(
        r#"{{"token":{{"_data":"{}"}},"cluster_time":{{"t":1695488555,"i":1}},"wall_time":null,"term":1,"fingerprint":"f","events":1,"updated_at":"2026-01-01T00:00:00Z"}}"#,
        TOKENS[0]
    );
    assert!(resume_tokens::Checkpoint::from_json(&checkpoint).is_ok());
    write(&here.join("corpus/token"), tokens.chain(documents).chain([checkpoint.into_bytes()]));
}

fn event(operation: &str) -> Document {
    doc! {
        "_id": { "_data": TOKENS[1] }, "operationType": operation, "ns": { "db": "d", "coll": "recruiters" },
        "to": { "db": "d", "coll": "cfas" }, "documentKey": { "_id": ObjectId::from_bytes([1; 12]) },
        "clusterTime": Timestamp { time: 1_695_488_555, increment: 1 }, "wallTime": DateTime::from_millis(5),
        "updated": ["jobs.0.stats_search_view", "jobs.12.job_status", "jobs", "status", "jobs.x", "jobs.99999999999999999999.a"],
        "removed": ["email"], "truncated": ["jobs"],
    }
}

fn bytes(document: &Document) -> Vec<u8> {
    document.to_vec().unwrap()
}

fn write(folder: &Path, seeds: impl Iterator<Item = Vec<u8>>) {
    fs::create_dir_all(folder).unwrap();
    for (number, seed) in seeds.enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
    }
}
