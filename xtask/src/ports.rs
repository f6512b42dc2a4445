//! Ports for servers that are started as child processes.

use std::io;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports that the kernel gives to no outgoing connection (Linux manual, ip(7), `ip_local_port_range`). A port that was
/// bound by the number 0 is one of those, so any connection can take it before the child process listens.
const PORTS: Range<u16> = 10_000..32_000;

/// Returns a port of 127.0.0.1 on which nobody listens. Each call of each process begins its search at another number.
///
/// # Errors
/// When all ports are taken.
pub fn free_port() -> io::Result<u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    /// About the golden ratio of 2³², so that neighbouring numbers lead to ports far apart.
    const SPREAD: u32 = 2_654_435_769;
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_add(call << 20).wrapping_mul(SPREAD) % count;
    let mut ports =
        (0..count).filter_map(|step| u16::try_from((first + step) % count).ok()).map(|port| PORTS.start + port);
    let free = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "every port from 10000 to 31999 is taken"))
}
