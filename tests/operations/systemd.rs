//! The service under systemd's protocol (sd_notify(3)), with a real datagram socket in the place of systemd's.

use tokio::net::UnixDatagram;

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::waiting::PATIENCE;

/// Receives datagrams until one begins with `wanted`.
async fn until_told(socket: &UnixDatagram, wanted: &str) -> String {
    let receive = async {
        let mut bytes = [0; 4096];
        loop {
            let length = socket.recv(&mut bytes).await.unwrap();
            let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if told.starts_with(wanted) {
                return told;
            }
        }
    };
    tokio::time::timeout(PATIENCE, receive).await.unwrap_or_else(|_| panic!("systemd was not told {wanted}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_the_service_is_ready_lives_and_stops() {
    let test = TestDatabase::create("systemd").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut processor = Processor::start(&test, &variables);
    until_told(&socket, "READY=1").await;
    until_told(&socket, "STATUS=in_step").await;
    for _ in 0..3 {
        until_told(&socket, "WATCHDOG=1").await;
    }
    processor.sigterm();
    until_told(&socket, "STOPPING=1").await;
    assert_eq!(processor.until_ended().await.code, 0);
}
