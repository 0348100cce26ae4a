//! Builds the page that the server shows at `/`, from `web/` into `web/dist/`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::packages::npm_ci;
use crate::programs;
use crate::workspace::{root, without_server_settings};

/// Folders of `web/` that hold results and not sources; so do all hidden ones.
const NOT_SOURCES: [&str; 2] = ["node_modules", "dist"];

/// Builds the page if it is missing or older than its sources. The server runs without it as well, so a page
/// that cannot be built costs one line and nothing else.
pub(crate) fn build_if_stale(shell: &Shell) {
    let web = root().join("web");
    if !is_stale(&web) {
        return;
    }
    if !programs::NODE.is_there(shell) {
        println!("The page is not built, the server goes on without it: {}", programs::NODE.advice());
    } else if let Err(error) = build(shell) {
        println!("The page is not built, the server goes on without it: {error:#}");
    }
}

/// Builds the page.
pub(crate) fn build(shell: &Shell) -> Result<()> {
    npm_ci(shell, "web")?;
    let _there = shell.push_dir(root().join("web"));
    without_server_settings(cmd!(shell, "npm run build")).run()?;
    Ok(())
}

/// Whether the page in `web/dist` is missing or older than something it is made from.
fn is_stale(web: &Path) -> bool {
    let built = fs::metadata(web.join("dist").join("index.html")).and_then(|page| page.modified());
    !built.is_ok_and(|built| newest_source(web) <= Some(built))
}

/// When a file below `folder` last changed; `None` if there is none.
fn newest_source(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.filter_map(|entry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            let name = entry.file_name();
            let is_result = NOT_SOURCES.iter().any(|other| name == *other) || is_hidden(&name);
            if is_result { None } else { newest_source(&entry.path()) }
        } else {
            entry.metadata().and_then(|file| file.modified()).ok()
        }
    });
    times.max()
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Writes a file that last changed `age_s` seconds after the epoch.
    fn write(web: &Path, file: &str, age_s: u64) {
        let path = web.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = fs::File::create(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age_s)).unwrap();
    }

    #[test]
    fn the_page_is_stale_when_missing_or_older_than_a_source() {
        let folder = tempfile::tempdir().unwrap();
        let web = folder.path();
        write(web, "src/main.ts", 100);
        assert!(is_stale(web), "never built");
        write(web, "dist/index.html", 200);
        assert!(!is_stale(web), "built after the last change");
        write(web, "node_modules/vite/index.js", 300);
        write(web, "dist/assets/index.js", 300);
        write(web, ".test-build/main.js", 300);
        assert!(!is_stale(web), "packages and results are no sources");
        write(web, "src/deep/down/scene.ts", 300);
        assert!(is_stale(web), "changed since");
    }
}
