//! Checks which checkouts are served, and that they do not conflict.

#[cfg(unix)]
use std::path::{Path, PathBuf};

use super::ConfigFixture;

// `/a` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn a_project_needs_a_root_only() {
    let config = ConfigFixture::with("[[project]]\nroot = \"/art/Owl\"\n").loaded().config;
    assert_eq!(config.projects.len(), 1, "the default checkout is replaced");
    let project = &config.projects[0];
    assert_eq!((project.name.as_str(), project.root.as_path()), ("Owl", Path::new("/art/Owl")));
    assert_eq!(project.prompt, PathBuf::from("/art/Owl/data/generated_text/userPrompt.txt"));
    assert_eq!(project.mesh.len(), 2);
}

// `/a` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn a_later_files_projects_replace_all_of_an_earlier_ones() {
    let mut fixture = ConfigFixture::with("[[project]]\nroot = \"/c\"\n");
    fixture.sources.user_file = Some(
        fixture.write("user.toml", b"[[project]]\nroot = \"/a\"\n[[project]]\nroot = \"/b\"\n"),
    );
    let roots: Vec<_> =
        fixture.loaded().config.projects.into_iter().map(|project| project.root).collect();
    assert_eq!(roots, [PathBuf::from("/c")]);
}

#[test]
fn a_root_alone_serves_that_checkout_with_the_defaults() {
    let mut fixture = ConfigFixture::new();
    fixture.sources.root = Some("CONJURE/".into());
    let loaded = fixture.loaded();
    let root = fixture.dir.path().join("CONJURE");
    assert_eq!(loaded.config.projects.len(), 1);
    assert_eq!(loaded.config.projects[0].name, "CONJURE");
    assert_eq!(loaded.config.projects[0].root, root);
    assert_eq!(loaded.config.projects[0].image, [root.join("data/generated_images/flux/flux.png")]);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

// `/a` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn a_root_that_a_block_describes_is_served_as_that_block_says() {
    let mut fixture = ConfigFixture::with(
        "[[project]]\nroot = \"/a\"\n[[project]]\nroot = \"/b/./\"\nname = \"second\"\nimage = [\"x.png\"]\n",
    );
    fixture.sources.root = Some("/b".into());
    let projects = fixture.loaded().config.projects;
    assert_eq!(projects.len(), 1);
    assert_eq!(
        (projects[0].name.as_str(), &projects[0].image),
        ("second", &vec![PathBuf::from("/b/x.png")])
    );
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(ConfigFixture::with(text).complaints(), expected);
}

// `/a` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn a_name_or_a_root_that_occurs_twice_names_both_places() {
    check(
        "[[project]]\nroot = \"/a\"\nname = \"owl\"\n\n[[project]]\nroot = \"/b\"\nname = \"owl\"\n",
        "config.toml:5: two projects have the name \"owl\"; the other one is at config.toml:1",
    );
    check(
        "[[project]]\nroot = \"/a\"\n[[project]]\nroot = \"/a/\"\nname = \"b\"\n",
        "config.toml:3: two projects have the root /a; the other one is at config.toml:1",
    );
}

// `/a` is not an absolute path on Windows.
#[cfg(unix)]
#[test]
fn a_result_is_never_written_over_an_input_or_another_result() {
    check(
        "[[project]]\nroot = \"/a\"\nrender = \"r.png\"\nimage = [\"./r.png\"]\n",
        "config.toml:1: /a/r.png is used for both a result and an input; the other one is at config.toml:1",
    );
    check(
        "[[project]]\nroot = \"/a\"\n[[project]]\nroot = \"/b\"\nimage = [\"/a/data/generated_images/flux/flux.png\"]\n",
        "config.toml:3: /a/data/generated_images/flux/flux.png is used for two results; the other one is at \
         config.toml:1",
    );
}

#[test]
fn a_project_that_is_not_written_as_one_is_told_how() {
    check(
        "[[project]]\nname = \"owl\"\n",
        "config.toml:1: `project.root` is missing; each [[project]] needs the folder of its \
         CONJURE checkout, such as root = \"~/CONJURE\"",
    );
    check(
        "[project]\nroot = \"/a\"",
        "config.toml:1: `project` is a list: write [[project]], with two brackets",
    );
    check("project = []", "config.toml:1: `project` must name at least one checkout");
    check(
        "project = [1]",
        "config.toml:1: `project` must be a list of [[project]] blocks, not the number 1",
    );
    check(
        "[[project]]\nroot = \"\"\nnam = \"a\"\nmesh = [\"a.glb\", \"b.obj\"]\nprompt = \"\"\n",
        "config.toml:2: `project.root` must not be empty: it is the folder of a CONJURE checkout\n\n\
         config.toml:3: unknown key `nam` in [project]\n  did you mean `name`?\n\n\
         config.toml:4: `project.mesh` must name files that end in .glb\n\n\
         config.toml:5: `project.prompt` must name a file",
    );
    check(
        "[[project]]\nroot = \"~bob/CONJURE\"\n",
        "config.toml:2: `project.root` names another user's home folder; write the full path",
    );
}
