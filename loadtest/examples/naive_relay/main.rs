//! The relay that everybody writes first, on socketioxide: every update goes straight out to everybody else.
//!
//! It is what Copresence is compared with, so it is given every advantage that costs it nothing: release build,
//! the same allocator, a current-thread runtime that can be pinned to a core, no logins, no storage. It listens
//! on 127.0.0.1, on `PORT` (default 3002).

mod relay;

use std::net::Ipv4Addr;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = match std::env::var("PORT") {
        Ok(text) => text.parse().map_err(std::io::Error::other)?,
        Err(_) => 3002,
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    relay::serve(listener).await
}
