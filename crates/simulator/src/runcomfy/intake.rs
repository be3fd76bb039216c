//! Accepting a submit: from the bytes of the body to what the run will do, or why there will
//! be none.
//!
//! Owns the two kinds of rejection of the service: refused immediately (422001; nothing runs,
//! nothing is billed), and accepted but failing in the run (10008, 10009). Of a body it keeps what
//! the record and the products need, not the body itself.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use conjured_domain::fingerprint::Fingerprint;

use super::graph::{Graph, OutputNode, OverrideError};
use crate::{behaviour::Behaviour, produce::picture, stats::PictureRecord};

/// What a request will do.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRun {
    /// The overrides as received, with data URIs replaced by a short description.
    pub(crate) overrides: Value,
    /// The picture as received.
    pub(crate) picture: Option<Bytes>,
    /// What is known about the picture.
    pub(crate) picture_record: Option<PictureRecord>,
    /// The prompt after the merge.
    pub(crate) prompt: String,
    /// The image seed after the merge.
    pub(crate) seed: u64,
    /// The mesh seed after the merge.
    pub(crate) mesh_seed: u64,
    /// The nodes that output pictures.
    pub(crate) images: Vec<OutputNode>,
    /// The nodes that output meshes.
    pub(crate) meshes: Vec<OutputNode>,
    /// Why the run will fail.
    pub(crate) failure: Option<RunFailure>,
}

/// Why a run fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunFailure {
    /// The service's code.
    pub(crate) code: u32,
    /// Its message.
    pub(crate) message: String,
}

/// Parses a body. `Err` holds the entries of `detail[]`.
pub(crate) fn read(body: &[u8], behaviour: &Behaviour) -> Result<PlannedRun, Vec<Value>> {
    let refusal = |place: &[&str], message: &str| {
        let place: Vec<_> = ["body"].iter().chain(place).collect();
        vec![json!({"type": "value_error", "loc": place, "msg": message})]
    };
    let body: Value = match body {
        [] => json!({}),
        bytes => serde_json::from_slice(bytes).map_err(|_| refusal(&[], "JSON decode error"))?,
    };
    let members = body.as_object().ok_or_else(|| refusal(&[], "Input should be an object"))?;
    let inline = members.get("workflow_api_json").filter(|graph| !graph.is_null());
    let mut graph = match inline {
        Some(graph) => Graph::from_json(graph)
            .ok_or_else(|| refusal(&["workflow_api_json"], "Not a graph in API format"))?,
        None => Graph::saved(),
    };
    let overrides = members.get("overrides").cloned();
    if overrides.is_none() && inline.is_none() && !behaviour.accept_empty_body {
        return Err(refusal(&["overrides"], "Field required"));
    }
    let overrides = overrides.unwrap_or_else(|| json!({}));
    let misfits = graph.merge(&overrides);
    if !misfits.is_empty() && (behaviour.refuse_unknown_overrides || !overrides.is_object()) {
        return Err(misfits.iter().map(OverrideError::to_json).collect());
    }
    Ok(work(&graph, overrides))
}

fn work(graph: &Graph, overrides: Value) -> PlannedRun {
    let (picture, picture_record, mut failure) = match graph.picture().map(load) {
        Some(Ok((bytes, record))) => (Some(bytes), record, None),
        Some(Err(failure)) => (None, None, Some(failure)),
        None => (None, None, None),
    };
    if let Some(message) = graph.complaint() {
        failure = Some(RunFailure {
            code: 10008,
            message: format!("Prompt outputs failed validation: {message}"),
        });
    }
    let seed = |value: Option<i128>| u64::try_from(value.unwrap_or(0)).unwrap_or(0);
    if failure.is_none() && graph.seed().is_some_and(|seed| seed < 0) {
        // A negative seed passes the primitive's own check and fails in the sampler.
        let message = "XlabsSampler: seed must be non-negative".to_owned();
        failure = Some(RunFailure { code: 10011, message });
    }
    PlannedRun {
        overrides: without_pictures(overrides, 0),
        picture,
        picture_record,
        prompt: graph.prompt(),
        seed: seed(graph.seed()),
        mesh_seed: seed(graph.mesh_seed()),
        images: graph.image_nodes(),
        meshes: graph.mesh_nodes(),
        failure,
    }
}

/// Loads the picture that `LoadImage` names: a data URI, a public address, or a file of the
/// saved environment.
fn load(name: &str) -> Result<(Bytes, Option<PictureRecord>), RunFailure> {
    let bad = |message: &str| RunFailure { code: 10009, message: message.to_owned() };
    if let Some(uri) = name.strip_prefix("data:") {
        let (mime, text) = uri.split_once(";base64,").ok_or_else(|| bad("unsupported data URI"))?;
        let bytes = STANDARD.decode(text).map_err(|_| bad("failed to decode base64 input"))?;
        let decoded = picture::decode(&bytes).ok_or_else(|| bad("cannot identify image file"))?;
        let record = PictureRecord {
            mime: mime.to_owned(),
            base64_chars: text.len(),
            bytes: bytes.len(),
            fingerprint: Fingerprint::of(&bytes),
            width: decoded.width(),
            height: decoded.height(),
        };
        return Ok((bytes.into(), Some(record)));
    }
    if name.contains("://") {
        let public = url::Url::parse(name).is_ok_and(|url| is_public(&url));
        // Nothing is fetched: a simulator must not connect to other hosts. The run gets a grey
        // gradient instead.
        return if public {
            Ok((Bytes::new(), None))
        } else {
            Err(bad("failed to fetch input file"))
        };
    }
    let saved = Graph::saved();
    if saved.picture() == Some(name) {
        return Ok((Bytes::new(), None));
    }
    Err(RunFailure { code: 10008, message: format!("Invalid image file: {}", shortened(name)) })
}

/// Returns whether the service could fetch an address: it must be public and encrypted.
fn is_public(url: &url::Url) -> bool {
    let open_host = match url.host() {
        Some(url::Host::Domain(name)) => name != "localhost" && name.contains('.'),
        Some(url::Host::Ipv4(ip)) => !ip.is_loopback() && !ip.is_private() && !ip.is_unspecified(),
        Some(url::Host::Ipv6(ip)) => !ip.is_loopback() && !ip.is_unspecified(),
        None => false,
    };
    url.scheme() == "https" && open_host
}

/// Replaces data URIs by a description, at any depth that `serde_json` accepts.
fn without_pictures(value: Value, depth: usize) -> Value {
    match value {
        Value::String(text) if text.starts_with("data:") => {
            let digest = Fingerprint::of(text.as_bytes()).short();
            let head = shortened(text.split(',').next().unwrap_or_default());
            Value::String(format!("{head},… ({} characters, {digest})", text.len()))
        }
        Value::Object(members) if depth < 200 => {
            let shown =
                members.into_iter().map(|(key, value)| (key, without_pictures(value, depth + 1)));
            Value::Object(shown.collect::<Map<_, _>>())
        }
        Value::Array(items) if depth < 200 => {
            items.into_iter().map(|item| without_pictures(item, depth + 1)).collect()
        }
        other => other,
    }
}

/// Returns the first 60 characters of a text that may be very long.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_image(image: &str) -> PlannedRun {
        let body = json!({"overrides": {"16": {"inputs": {"image": image}}}}).to_string();
        read(body.as_bytes(), &Behaviour::default()).expect("the overrides fit")
    }

    fn code(work: &PlannedRun) -> Option<u32> {
        work.failure.as_ref().map(|failure| failure.code)
    }

    #[test]
    fn a_data_uri_is_decoded_and_described_but_not_repeated() {
        let png = crate::gesture_camera::GestureCamera::with_side(16).frame(1);
        let uri = format!("data:image/png;base64,{}", STANDARD.encode(&png));
        let work = with_image(&uri);
        assert_eq!(code(&work), None);
        let record = work.picture_record.expect("a picture came");
        assert_eq!((record.width, record.height, record.bytes), (16, 16, png.len()));
        assert_eq!(record.fingerprint, Fingerprint::of(&png));
        assert!(work.overrides.to_string().len() < 200);
    }

    #[test]
    fn bad_pictures_fail_in_the_run() {
        assert_eq!(code(&with_image("data:image/png;base64,!!!!")), Some(10009));
        assert_eq!(code(&with_image("data:image/png;base64,AAAA")), Some(10009));
        assert_eq!(code(&with_image("data:image/png,plain")), Some(10009));
        assert_eq!(code(&with_image("https://127.0.0.1/a.png")), Some(10009));
        assert_eq!(code(&with_image("http://pictures.example.org/a.png")), Some(10009));
        assert_eq!(code(&with_image("https://pictures.example.org/a.png")), None);
        assert_eq!(code(&with_image("nowhere.png")), Some(10008));
    }

    #[test]
    fn a_negative_seed_fails_in_the_sampler() {
        let body = br#"{"overrides":{"42":{"inputs":{"value":-1}}}}"#;
        assert_eq!(code(&read(body, &Behaviour::default()).expect("it fits")), Some(10011));
    }

    #[test]
    fn unknown_overrides_are_refused_or_ignored_and_so_is_an_empty_body() {
        let body = br#"{"overrides":{"41":{"inputs":{"text":"a"}}}}"#;
        assert!(read(body, &Behaviour::default()).is_err());
        let silent = Behaviour { refuse_unknown_overrides: false, ..Behaviour::default() };
        assert!(read(body, &silent).is_ok());
        assert!(read(b"{}", &Behaviour::default()).is_ok());
        let strict = Behaviour { accept_empty_body: false, ..Behaviour::default() };
        assert!(read(b"{}", &strict).is_err());
        assert!(read(b"[]", &silent).is_err());
        assert!(read(br#"{"overrides":7}"#, &silent).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, &Behaviour::default());
        }

        #[test]
        fn arbitrary_pictures_never_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let uri = format!("data:image/png;base64,{}", STANDARD.encode(&bytes));
            with_image(&uri);
        }
    }
}
