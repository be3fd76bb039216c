//! The address of a file: `/view` with its three parameters, relative to the server.
//!
//! Owns how the address is written into the ledger and read back. It is relative because the
//! address of a rented machine is a secret, and because the same machine may return at another
//! address. `preview` and `channel` would re-encode a picture, and `preview` of a mesh answers HTTP
//! 500, so no other parameter is accepted.

use url::{Url, form_urlencoded};

/// The longest name that is accepted. File systems allow 255 bytes.
pub(super) const MAX_NAME: usize = 1024;

const PATH: &str = "/view";

/// Returns the relative address. The folder must be a separate parameter: as part of the name, or
/// missing, it leads to 404.
pub(super) fn address(filename: &str, subfolder: &str, kind: &str) -> String {
    let encode = |text: &str| {
        // A plus means a space only in form encoding. A literal plus is already `%2B` here.
        form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
    };
    format!(
        "{PATH}?filename={}&subfolder={}&type={}",
        encode(filename),
        encode(subfolder),
        encode(kind)
    )
}

/// Appends a relative address to the server's `view`. Returns `None` for anything that [`address`]
/// would not write.
pub(super) fn join(view: &Url, relative: &str) -> Option<Url> {
    let query = relative.strip_prefix(PATH)?.strip_prefix('?')?;
    let (mut filename, mut subfolder, mut kind) = (None, None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match &*key {
            "filename" => &mut filename,
            "subfolder" => &mut subfolder,
            "type" => &mut kind,
            _ => return None,
        };
        if place.replace(value).is_some() {
            return None;
        }
    }
    let rebuilt = address(&filename?, &subfolder?, &kind?);
    let mut url = view.clone();
    url.set_query(rebuilt.split_once('?').map(|(_, query)| query));
    Some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn view() -> Url {
        Url::parse("http://127.0.0.1:8188/view").expect("a URL")
    }

    #[test]
    fn an_address_has_three_parameters_each_encoded_and_nothing_else_passes() {
        let written = address("up (1)+ä&.png", "mesh/deep", "output");
        assert_eq!(
            written,
            "/view?filename=up%20%281%29%2B%C3%A4%26.png&subfolder=mesh%2Fdeep&type=output"
        );
        let joined = join(&view(), &written).expect("ours");
        assert_eq!(joined.as_str(), format!("http://127.0.0.1:8188{written}"));
        for bad in [
            "https://elsewhere.example/view?filename=a&subfolder=&type=output",
            "//elsewhere.example/view?filename=a&subfolder=&type=output",
            "/view?filename=a&subfolder=&type=output&preview=webp",
            "/view?filename=a&filename=b&subfolder=&type=output",
            "/view?filename=a&type=output",
            "/interrupt",
            "",
        ] {
            assert_eq!(join(&view(), bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_as_it_was(name: String, folder: String, kind: String) {
            let url = join(&view(), &address(&name, &folder, &kind)).expect("ours");
            let pairs: Vec<(String, String)> =
                url.query_pairs().map(|(key, value)| (key.into(), value.into())).collect();
            prop_assert_eq!(pairs, vec![
                ("filename".to_owned(), name),
                ("subfolder".to_owned(), folder),
                ("type".to_owned(), kind),
            ]);
            prop_assert_eq!(url.host_str(), Some("127.0.0.1"));
        }
    }
}
