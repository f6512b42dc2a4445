//! What a client may do to the HTTP side: however slow, huge or many its requests are, probes are answered and the
//! stream goes on. One socket listens, and `health` asks it.

use std::collections::BTreeSet;
use std::fs;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::started;
use crate::support::waiting::caught_up;

#[tokio::test(flavor = "multi_thread")]
async fn slow_huge_and_many_requests_are_cut_off_and_probes_are_still_answered() {
    let test = TestDatabase::create("http_bounds").await;
    let processor = started(&test).await;
    let mut slow = TcpStream::connect(processor.address()).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: slow\r\nX-Never").await.unwrap();

    for huge in [format!("GET /{} HTTP/1.1\r\n", "a".repeat(1 << 20)), "X: y\r\n".repeat(1 << 17)] {
        let mut connection = TcpStream::connect(processor.address()).await.unwrap();
        // The server may have gone away in the middle of it.
        let _ = connection.write_all(format!("GET / HTTP/1.1\r\n{huge}").as_bytes()).await;
        let answer = until_closed(&mut connection).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut endless = TcpStream::connect(processor.address()).await.unwrap();
    let head = "POST /api/status HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    endless.write_all(head.as_bytes()).await.unwrap();
    let block = vec![b'a'; 1 << 20];
    for _ in 0..64 {
        if endless.write_all(&block).await.is_err() {
            break;
        }
    }
    assert!(processor.metric("process_resident_memory_bytes").await.unwrap() < 256e6);

    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(processor.address()).await.unwrap());
    }
    assert_eq!(processor.http_get("/livez").await.0, 200, "many silent connections keep nobody out");
    let open = fs::read_dir(format!("/proc/{}/fd", processor.pid())).unwrap().count();
    assert!(open < 200, "the service holds {open} descriptors");
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    caught_up(&test.database).await;
    assert_eq!(until_closed(&mut slow).await, "", "the many cut off the oldest");
    let mut slow = TcpStream::connect(processor.address()).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: slow\r\nX-Never").await.unwrap();
    let answer = until_closed(&mut slow).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "the slow one is cut off: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens_but_the_address_of_the_configuration() {
    let test = TestDatabase::create("http_listening").await;
    let processor = started(&test).await;
    let port: u16 = processor.address().rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(listening(processor.pid()), BTreeSet::from([port]));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_the_instance_and_ends_with_its_answer() {
    let test = TestDatabase::create("http_health").await;
    let processor = started(&test).await;
    let here = [("STREAM_PROCESSOR__HTTP__LISTEN", processor.address())];
    for arguments in [&["health"][..], &["health", "--ready"]] {
        let ended = Processor::command(arguments, &test, &here).await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stdout.starts_with('{'), "{}", ended.stdout);
    }
    let nobody = Processor::command(&["health"], &test, &[]).await;
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("no answer from 127.0.0.1:"), "{}", nobody.stderr);
}

async fn until_closed(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The TCP ports on which a process listens (proc(5): state `0A` in `/proc/net/tcp`, by inode).
fn listening(pid: u32) -> BTreeSet<u16> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets: BTreeSet<String> = files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        for row in fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap().lines().skip(1) {
            let cells: Vec<&str> = row.split_whitespace().collect();
            if cells[3] == "0A" && sockets.contains(cells[9]) {
                ports.insert(u16::from_str_radix(cells[1].rsplit(':').next().unwrap(), 16).unwrap());
            }
        }
    }
    ports
}
