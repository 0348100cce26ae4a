//! The page, served from memory.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use ::http::Response;
use ::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use bytes::Bytes;
use tracing::{error, info};

use super::reply;
use crate::net::serve::Body;

/// Bytes of all of the page's files. Above: there is no page, and the log says so.
pub const MAX_PAGE_BYTES: u64 = 32 * 1024 * 1024;

/// Files of the page. Above: there is no page, and the log says so.
pub const MAX_PAGE_FILES: usize = 1_000;

/// How deep its directories nest. Above: there is no page; most likely a link leads in a circle.
const MAX_DEPTH: usize = 8;

/// Names of files under here change with their content, so that a browser need never ask again.
const HASHED: &str = "/assets/";

const FOREVER: &str = "public, max-age=31536000, immutable";

/// The page runs its own code only and speaks to this server only.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'";

const HTML: &str = "text/html; charset=utf-8";

const ABSENT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>Copresence</title>
<h1>Copresence is running</h1>
<p>Socket.IO clients can connect to this address now. The page that belongs here has not been built.</p>
<p>To get it, install Node.js and start the server with <code>cargo xtask run</code>, or set
<code>WEB_DIR</code> to a directory that holds a built page.</p>
<p><a href=\"/api/health\">Health</a> · <a href=\"/openapi.json\">API description</a></p>
</html>
";

/// All files of a built page, by their paths in URLs.
#[derive(Debug)]
pub(super) struct Page {
    files: HashMap<String, PageFile>,
}

#[derive(Debug)]
struct PageFile {
    content_type: &'static str,
    bytes: Bytes,
}

impl Page {
    /// The page in `directory`, unless it cannot be read or is too large; the log says which.
    pub(super) fn load(directory: &Path) -> Option<Self> {
        let mut page = Self { files: HashMap::new() };
        match page.read(directory, "", 0, &mut 0) {
            Ok(()) => {
                info!(directory = %directory.display(), files = page.files.len(), "the page is loaded");
                Some(page)
            }
            Err(error) => {
                error!(directory = %directory.display(), %error, "the page is not loaded");
                None
            }
        }
    }

    fn read(&mut self, directory: &Path, prefix: &str, depth: usize, total: &mut u64) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("its directories nest too deep"));
        }
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let url = format!("{prefix}/{name}");
            let metadata = fs::metadata(&path)?;
            if metadata.is_dir() {
                self.read(&path, &url, depth + 1, total)?;
                continue;
            }
            *total += metadata.len();
            if *total > MAX_PAGE_BYTES || self.files.len() >= MAX_PAGE_FILES {
                return Err(io::Error::other("it is too large"));
            }
            let file = PageFile { content_type: content_type(name), bytes: fs::read(&path)?.into() };
            self.files.insert(url, file);
        }
        Ok(())
    }

    /// The file at that path of a URL. Paths are looked up and never put together, so none leads elsewhere.
    pub(super) fn file(&self, path: &str) -> Option<Response<Body>> {
        let path = if path == "/" { "/index.html" } else { path };
        let file = self.files.get(path)?;
        let cache = if path.starts_with(HASHED) { FOREVER } else { "no-cache" };
        Some(respond(file.content_type, file.bytes.clone(), cache))
    }
}

/// What stands at `/` when there is no page.
pub(super) fn absent() -> Response<Body> {
    respond(HTML, Bytes::from_static(ABSENT.as_bytes()), "no-cache")
}

fn respond(content_type: &'static str, bytes: Bytes, cache: &'static str) -> Response<Body> {
    let mut response = reply::of_type(content_type, bytes);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if content_type == HTML {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    response
}

/// By the end of a file's name: what a build of a page holds.
fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => HTML,
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "glb" => "model/gltf-binary",
        "gltf" => "model/gltf+json",
        "mp3" => "audio/mpeg",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("index.html"), "<p>").unwrap();
        assert!(Page::load(directory.path()).is_some());
        // Sparse: it takes no room.
        fs::File::create(directory.path().join("film")).unwrap().set_len(MAX_PAGE_BYTES).unwrap();
        assert!(Page::load(directory.path()).is_none());
    }

    #[test]
    fn a_circle_of_links_is_not_loaded() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("again")).unwrap();
        assert!(Page::load(directory.path()).is_none());
        assert!(Page::load(&directory.path().join("absent")).is_none());
    }
}
