//! Ports that stay ours while a server is down, so that it can come back on the same one.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixListener},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::error::{Error, Result};

/// Below the range from which the kernel takes the ports of outgoing connections.
const FIRST: u16 = 16_000;
const COUNT: u16 = 16_000;

/// A port of 127.0.0.1 that no other process using this crate takes while this value lives.
pub(crate) struct Port {
    pub(crate) number: u16,
    /// A name that only one process of the machine can hold; the kernel frees it when the process ends.
    _reservation: UnixListener,
}

impl Port {
    pub(crate) fn reserve() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes begin at different places, so that they seldom meet.
        let start = std::process::id().wrapping_mul(37);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = FIRST + (start.wrapping_add(step) % u32::from(COUNT)) as u16;
            let name = SocketAddr::from_abstract_name(format!("sendoff-testpg-{number}"));
            let Ok(reservation) = name.and_then(|name| UnixListener::bind_addr(&name)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _reservation: reservation });
            }
        }
        Err(Error::new(format!("no port of 127.0.0.1 is free from {FIRST} to {}", FIRST + COUNT)))
    }
}
