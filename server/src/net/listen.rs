//! The listening sockets: one per core on the same port, among which the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted. Thousands may come within a second when a server comes back.
const BACKLOG: i32 = 4096;

/// `count` sockets that listen at `address`. If its port is 0, they share one that the system chooses.
///
/// # Errors
/// The system's, above all when somebody listens there already.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sockets that share a port let any later process of this user share it too. A second server would silently
    // take half of the connections; so one socket that does not share tries first whether the port is free.
    let exclusive = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    exclusive.set_reuse_address(true)?;
    exclusive.bind(&address.into())?;
    let address = match exclusive.local_addr()?.as_socket() {
        Some(bound) => bound,
        None => address,
    };
    drop(exclusive);
    (0..count).map(|_| listener(address)).collect()
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_a_port_and_a_second_server_does_not_get_it() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
