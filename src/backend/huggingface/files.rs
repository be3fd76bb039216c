//! The files of a Space: finds them in outputs, builds their addresses, and downloads
//! them completely.
//!
//! Owns the address of a file. Gradio's own `url` is not used: in some versions it
//! is wrong for some names, and its host comes from a request header. Addresses
//! are `{base}{prefix}/file={path}`.
//!
//! A download never resumes: the answer to a range request repeats *our* headers, so nothing in it
//! can be trusted.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use image::ImageFormat;
use serde_json::Value;
use url::Url;

use super::{Spaces, gradio::describe::SpaceDescription, run::SpaceCall};
use crate::{
    backend::{Download, FetchError},
    domain::job::artifact::RemoteFile,
};

/// How deep a file may be nested in an output. A gallery nests it two objects deep.
const MAX_DEPTH: usize = 6;

/// The longest path that is accepted.
const MAX_PATH: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputFile {
    /// Its path on the server.
    pub(super) path: String,
    pub(super) name: String,
}

/// Returns the first file in the outputs that has one of `extensions`, or else the first file.
pub(super) fn find(outputs: &[Value], extensions: &[&str]) -> Option<OutputFile> {
    let mut all = Vec::new();
    for output in outputs {
        collect(output, MAX_DEPTH, &mut all);
    }
    let fits = |found: &OutputFile| {
        let extension = found.name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        extension.is_some_and(|extension| extensions.contains(&extension.as_str()))
    };
    let place = all.iter().position(fits).unwrap_or(0);
    (place < all.len()).then(|| all.swap_remove(place))
}

fn collect(value: &Value, depth: usize, out: &mut Vec<OutputFile>) {
    if depth == 0 || out.len() >= 100 {
        return;
    }
    match value {
        Value::Array(list) => list.iter().for_each(|value| collect(value, depth - 1, out)),
        Value::Object(members) => match members.get("path").and_then(Value::as_str) {
            Some(path) if is_path(path) => {
                // `orig_name` is chosen by the app and may be anything; the end of the path is the
                // real file name.
                let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
                out.push(OutputFile { path: path.to_owned(), name: name.to_owned() });
            }
            _ => members.values().for_each(|value| collect(value, depth - 1, out)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns whether a path can be part of an address and keeps its meaning there.
fn is_path(path: &str) -> bool {
    let is_step = |segment: &str| matches!(segment, "." | "..");
    (1..=MAX_PATH).contains(&path.len())
        && !path.chars().any(char::is_control)
        && !path.split('/').any(is_step)
}

/// Returns the address of a path: percent-encoded, except for its slashes.
pub(super) fn address(space: &SpaceDescription, path: &str) -> Url {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    space.at(&format!("/file={encoded}"))
}

/// Returns the extension and the media type of a picture from its first bytes. The name and the
/// `Content-Type` are not trusted.
pub(super) fn picture_kind(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => {
            Some((format.extensions_str()[0], format.to_mime_type()))
        }
        _ => None,
    }
}

/// Returns a file in the form that the rest of the crate uses.
pub(super) fn remote(part: SpaceCall, url: &Url, filename: String) -> RemoteFile {
    let (node, channel) = part.output();
    RemoteFile {
        node: node.to_owned(),
        channel: channel.to_owned(),
        url: url.as_str().to_owned(),
        filename,
        file_type: "output".to_owned(),
    }
}

impl Spaces {
    /// Starts a download, always from the beginning. A picture that was passed on to the second
    /// Space is still in memory, because the first Space may have restarted since.
    pub(super) async fn open_file(&self, file: &RemoteFile) -> Result<Download, FetchError> {
        if let Some(bytes) = self.cached_picture(&file.url).await {
            return Ok(in_memory(bytes));
        }
        let host = |url: &str| {
            url.split(['?', '#']).next().unwrap_or_default().chars().take(100).collect()
        };
        let url = Url::parse(&file.url).ok().filter(|url| self.is_ours(url));
        let Some(url) = url else {
            return Err(FetchError::Forbidden {
                host: host(&file.url),
                reason: "it is not an address of a configured Space",
            });
        };
        let name = url.host_str().unwrap_or_default().to_owned();
        let response = self.files.download(url).await.map_err(|reason| FetchError::Transient {
            reason: format!("could not reach {name}: {reason}"),
        })?;
        if response.status().is_redirection() {
            // The redirect would be followed without the token, which a private Space's file
            // requires. A public Space never redirects its files.
            return Err(FetchError::Forbidden {
                host: name,
                reason: "it redirects to another address, which is not followed",
            });
        }
        self.downloader.read_whole(response, &file.url)
    }
}

fn in_memory(bytes: Bytes) -> Download {
    let total = Some(bytes.len() as u64);
    Download { start: 0, total, chunks: stream::once(async move { Ok(bytes) }).boxed() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn space() -> SpaceDescription {
        let config = json!({"api_prefix": "/gradio_api", "dependencies": []});
        let base = Url::parse("http://127.0.0.1:1/copy").expect("a URL");
        SpaceDescription::read(&base, &config, &json!({}), &[], "FLUX")
            .expect("nothing is looked for")
    }

    #[test]
    fn an_address_is_ours_and_every_character_but_the_slash_is_encoded() {
        let url = address(&space(), "/tmp/gradio/ab/a b%20ü?#&=.webp");
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:1/copy/gradio_api/file=/tmp/gradio/ab/a%20b%2520%C3%BC%3F%23%26%3D.webp"
        );
        assert_eq!(
            address(&space(), "C:\\t\\a.glb").path(),
            "/copy/gradio_api/file=C%3A%5Ct%5Ca.glb"
        );
    }

    #[test]
    fn a_file_is_found_wherever_it_lies_and_null_is_none() {
        let data = |path: &str| json!({"path": path, "url": "http://evil.example/x", "orig_name": "other.png"});
        let name = |outputs: &[Value]| find(outputs, &["glb"]).map(|found| found.name);
        assert_eq!(name(&[json!(null), json!(7)]), None);
        assert_eq!(name(&[data("/t/a.webp"), json!(7)]).as_deref(), Some("a.webp"));
        assert_eq!(name(&[data("/t/a.webp"), data("/t/b.GLB")]).as_deref(), Some("b.GLB"));
        assert_eq!(
            name(&[json!([{"image": data("/t/c.png"), "caption": null}])]).as_deref(),
            Some("c.png")
        );
        assert_eq!(
            name(&[json!({"__type__": "update", "value": data("/t/d.glb")})]).as_deref(),
            Some("d.glb")
        );
        for bad in ["", "/t/../../secret", "/t/./x", "a\nb"] {
            assert_eq!(name(&[data(bad)]), None, "{bad:?}");
        }
    }

    #[test]
    fn a_picture_is_judged_by_its_first_bytes() {
        assert_eq!(picture_kind(b"RIFF\0\0\0\0WEBPVP8 "), Some(("webp", "image/webp")));
        assert_eq!(picture_kind(b"\x89PNG\r\n\x1a\n..."), Some(("png", "image/png")));
        assert_eq!(picture_kind(b"\xff\xd8\xff\xe0"), Some(("jpg", "image/jpeg")));
        for none in [&b"<html>"[..], b"RIFF", b""] {
            assert_eq!(picture_kind(none), None);
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_api(path in "/[^\\x00-\\x1f]{0,60}") {
            let url = address(&space(), &path);
            if is_path(&path) {
                prop_assert!(url.as_str().starts_with("http://127.0.0.1:1/copy/gradio_api/file=/"), "{url}");
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }
}
