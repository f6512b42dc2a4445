//! The service under systemd's protocol (sd_notify(3)), with a real datagram socket in the place of systemd's.

use crate::support::database::TestDatabase;
use crate::support::notify_socket::NotifySocket;
use crate::support::processor::Processor;

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_the_service_is_ready_lives_and_stops() {
    let test = TestDatabase::create("systemd").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = NotifySocket::bind(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "300000")];
    let mut processor = Processor::start(&test, &variables);
    socket.until_told("READY=1").await;
    socket.until_told("STATUS=in_step").await;
    for _ in 0..3 {
        socket.until_told("WATCHDOG=1").await;
    }
    processor.sigterm();
    socket.until_told("STOPPING=1").await;
    assert_eq!(processor.until_ended().await.code, 0);
}
