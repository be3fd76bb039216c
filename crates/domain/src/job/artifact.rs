//! The output files of a run as the backend lists them, and which of them are the job's image
//! and mesh.
//!
//! Owns this choice (bound node, then `type = output`, then extension), but not the checks of the
//! content: [`crate::picture`] and [`crate::mesh`] do those after the download.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The two artifacts of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// The FLUX picture.
    Image,
    /// The PartPacker mesh, a GLB.
    Mesh,
}

impl ArtifactKind {
    /// Image before mesh: the order in which artifacts are placed.
    pub const ALL: [Self; 2] = [Self::Image, Self::Mesh];

    /// Returns the word that people and the ledger see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Mesh => "mesh",
        }
    }
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An output file as the backend lists it. None of its fields is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// The node that made it.
    pub node: String,
    /// The list that contained it (`images`, `3d`, …).
    pub channel: String,
    /// The download URL.
    pub url: String,
    /// Its name on the backend; empty if the backend gives none.
    pub filename: String,
    /// `output`, `temp`, …; empty if the backend gives none.
    pub file_type: String,
}

impl RemoteFile {
    /// Returns the lower-case extension of the file name or, without one, of the URL's path; empty
    /// if both have none.
    pub fn extension(&self) -> String {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        [self.filename.as_str(), path]
            .into_iter()
            .filter_map(|name| name.rsplit(['/', '\\']).next()?.rsplit_once('.'))
            .map(|(_, extension)| extension.to_ascii_lowercase())
            .find(|extension| !extension.is_empty())
            .unwrap_or_default()
    }

    fn looks_like(&self, kind: ArtifactKind) -> bool {
        let extension = self.extension();
        match kind {
            ArtifactKind::Image => matches!(extension.as_str(), "png" | "webp" | "jpg" | "jpeg"),
            ArtifactKind::Mesh => extension == "glb",
        }
    }
}

/// Chooses the file that is the job's `kind`: made by `node` if such a file exists, an output
/// rather than an unlabelled file, and with a suitable extension. A `temp` preview is never chosen.
pub fn choose_file<'a>(
    files: &'a [RemoteFile],
    kind: ArtifactKind,
    node: &str,
) -> Option<&'a RemoteFile> {
    files
        .iter()
        .filter(|file| file.looks_like(kind) && !file.file_type.eq_ignore_ascii_case("temp"))
        .filter(|file| !file.file_type.eq_ignore_ascii_case("input"))
        .max_by_key(|file| {
            let bound = file.node == node;
            let output = file.file_type.eq_ignore_ascii_case("output");
            (bound, output)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(node: &str, filename: &str, file_type: &str) -> RemoteFile {
        RemoteFile {
            node: node.into(),
            channel: "images".into(),
            url: format!("https://storage.example/{filename}?sig=1"),
            filename: filename.into(),
            file_type: file_type.into(),
        }
    }

    #[test]
    fn the_bound_node_wins_and_a_preview_never_does() {
        let files = [
            file("9", "other.png", "output"),
            file("24", "preview.png", "temp"),
            file("24", "a.png", "output"),
            file("33", "m.glb", ""),
        ];
        assert_eq!(
            choose_file(&files, ArtifactKind::Image, "24").map(|f| &*f.filename),
            Some("a.png")
        );
        assert_eq!(
            choose_file(&files, ArtifactKind::Mesh, "33").map(|f| &*f.filename),
            Some("m.glb")
        );
        assert_eq!(choose_file(&files[1..2], ArtifactKind::Image, "24"), None);
    }

    #[test]
    fn without_a_bound_file_an_output_of_another_node_serves() {
        let files = [file("9", "x.webp", ""), file("38:42", "y.jpg", "output")];
        assert_eq!(
            choose_file(&files, ArtifactKind::Image, "24").map(|f| &*f.filename),
            Some("y.jpg")
        );
    }

    #[test]
    fn an_extension_comes_from_the_name_or_else_from_the_url() {
        let mut nameless = file("33", "mesh/a.GLB", "output");
        nameless.filename.clear();
        assert_eq!(nameless.extension(), "glb");
    }
}
