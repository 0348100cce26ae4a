//! `copresence`: the multiplayer server for WebXR.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use server::config::Config;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => error.exit(),
    };
    if let Err(error) = server::logging::init(&config) {
        return server::run::fail(&error);
    }
    match server::run::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => server::run::fail(&error),
    }
}
