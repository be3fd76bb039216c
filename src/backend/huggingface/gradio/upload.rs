//! Uploads a picture to a Space.
//!
//! Owns the form in which Gradio accepts files and the path that it returns. The name of the form's
//! field matters: with any other name, Gradio answers 200 and an empty list.

use bytes::Bytes;
use serde_json::Value;

use super::{describe::SpaceDescription, wire};
use crate::backend::{
    CallError,
    huggingface::{Spaces, errors},
};

/// The form field that Gradio reads files from.
const FIELD: &str = "files";

impl Spaces {
    /// Uploads a picture and returns the path that the Space keeps it under. May be repeated: the
    /// same bytes and name give the same path.
    pub(in crate::backend::huggingface) async fn upload(
        &self,
        to: &SpaceDescription,
        name: &str,
        mime: &str,
        bytes: &Bytes,
        space: &str,
    ) -> Result<String, CallError> {
        if let Some(most) = to.max_upload.filter(|most| bytes.len() as u64 > *most) {
            let size = bytes.len();
            return Err(errors::invalid_value(format!(
                "{space} accepts files of at most {most} bytes, but the picture has {size}"
            )));
        }
        let boundary = format!("conjured-{}", wire::new_session_name());
        let body = form(&boundary, name, mime, bytes);
        let kind = format!("multipart/form-data; boundary={boundary}");
        let sent = self.wire.post(to.at("/upload"), &kind, body, self.settings.call_timeout).await;
        let reply = sent.map_err(|reason| wire::unreachable_error(space, &reason))?;
        let Some(answer) = reply.success() else {
            return Err(errors::answer_problem(&reply, space, self.wire.has_token()));
        };
        let path = answer.get(0).and_then(Value::as_str).filter(|path| !path.is_empty());
        path.map(str::to_owned).ok_or_else(|| {
            errors::incompatible_space(format!(
                "{space} accepted the picture but returned no path for it"
            ))
        })
    }
}

fn form(boundary: &str, name: &str, mime: &str, bytes: &Bytes) -> Bytes {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = if !name.is_empty() && name.chars().all(plain) { name } else { "picture.png" };
    let mime =
        if mime.chars().all(|c| plain(c) || matches!(c, '/' | '+')) { mime } else { "image/png" };
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"{FIELD}\"; filename=\"{name}\"\r\nContent-Type: {mime}\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    [head.as_bytes(), bytes, tail.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_has_the_field_that_gradio_reads_and_no_name_can_break_it() {
        let form = form("b", "a\"\r\nx: y.png", "image/png\r\n", &Bytes::from_static(b"\0bytes"));
        let text = String::from_utf8_lossy(&form);
        assert!(text.starts_with("--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"picture.png\"\r\nContent-Type: image/png\r\n\r\n\0bytes\r\n--b--"));
    }
}
