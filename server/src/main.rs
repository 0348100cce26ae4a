//! `copresence`: the multiplayer server for WebXR.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use server::config::Invocation;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let config = match Invocation::load() {
        Ok(Invocation::Serve(config)) => *config,
        Ok(Invocation::Replay(command)) => return server::replay::command::run(&command),
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
