//! Connections: taken until somebody says stop, so many at once, and none that says nothing.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How often it is asked whether to stop.
const LOOK: Duration = Duration::from_millis(150);
/// How long open connections may take to end after it.
const LEAVE: Duration = Duration::from_secs(3);
/// How long a connection may be open without a whole request.
const SILENCE: Duration = Duration::from_secs(20);

/// Answers whoever comes to `listener`, at most `connections` at once, until `stopped` says so.
pub async fn serve(listener: TcpListener, service: Router, connections: usize, stopped: impl Fn() -> bool) {
    let room = Arc::new(Semaphore::new(connections));
    while !stopped() {
        // who comes when all places are taken waits at the door, without memory of ours
        let Ok(place) = timeout(LOOK, room.clone().acquire_owned()).await else { continue };
        let place = place.expect("the room is never closed");
        let Ok(accepted) = timeout(LOOK, listener.accept()).await else { continue };
        // a connection that broke off before it was taken is no fault of the others
        let Ok((stream, _)) = accepted else { continue };
        // small events are to be seen at once
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(SILENCE);
            // what goes wrong on a connection is its client's to see
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
    // a browser may hold its connection open for as long as it likes
    let _ = timeout(LEAVE, room.acquire_many(connections as u32)).await;
}

/// The names and addresses by which other machines reach this one, as far as they can be found out.
pub fn own_addresses() -> Vec<String> {
    // no packet is sent: the system is asked which of its addresses would be used
    let towards = |own: &str, other: &str| {
        let socket = UdpSocket::bind((own, 0)).ok()?;
        socket.connect((other, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
    };
    let v4 = towards("0.0.0.0", "192.0.2.1").map(|ip| ip.to_string());
    let v6 = towards("::", "2001:db8::1").map(|ip| format!("[{ip}]"));
    // where Linux and the BSDs keep it; elsewhere the addresses must do
    let names = ["/proc/sys/kernel/hostname", "/etc/hostname"].into_iter();
    let mut names = names.filter_map(|path| std::fs::read_to_string(path).ok()).map(|name| name.trim().to_lowercase());
    let name = names.find(|name| !name.is_empty() && name != "localhost");
    let local = name.as_ref().filter(|name| !name.contains('.')).map(|name| format!("{name}.local"));
    [v4, v6, name, local].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_for_others_are_not_the_loopback() {
        for name in own_addresses() {
            assert!(!name.starts_with("127.") && name != "localhost" && !name.is_empty(), "{name}");
            assert_eq!(name, name.to_lowercase());
        }
    }
}
