//! A datagram socket in the place of systemd's, to which a service tells its state (sd_notify(3)).

use std::path::Path;

use tokio::net::UnixDatagram;

use super::waiting::PATIENCE;

pub(crate) struct NotifySocket(UnixDatagram);

impl NotifySocket {
    pub(crate) fn bind(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// Receives datagrams until one begins with `wanted`.
    pub(crate) async fn until_told(&self, wanted: &str) -> String {
        let receive = async {
            let mut bytes = [0; 4096];
            loop {
                let length = self.0.recv(&mut bytes).await.unwrap();
                let told = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if told.starts_with(wanted) {
                    return told;
                }
            }
        };
        tokio::time::timeout(PATIENCE, receive).await.unwrap_or_else(|_| panic!("systemd was not told {wanted}"))
    }
}
