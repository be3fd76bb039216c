//! Checks where a token is found, in which order, and that it is never shown.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{TokenSearch, TokenSource, find_token};
use crate::config::tests::Desk;

/// Returns a [`ManagerInbox`] with a different token at every source; each token names its source.
fn full_desk() -> Desk {
    let mut desk = Desk::with("state_dir = \"state\"\n[serverless]\ntoken_file = \"named\"\n");
    for folder in ["credentials", "state", "user", "xdg/runcomfy"] {
        std::fs::create_dir_all(desk.dir.path().join(folder)).expect("a folder");
    }
    desk.sources.user_file = Some(desk.dir.path().join("user/config.toml"));
    private(&desk, "credentials/runcomfy_token", b"tok-credential\n");
    private(&desk, "named", b"\xef\xbb\xbf tok-named \r\n");
    private(&desk, "user/runcomfy_token", b"tok-user");
    private(&desk, "state/runcomfy_token", b"tok-state");
    private(&desk, "xdg/runcomfy/token.json", br#"{"access_token":"tok-official","expires_at":1}"#);
    let dir = desk.dir.path().display().to_string();
    desk.set("CREDENTIALS_DIRECTORY", &format!("{dir}/credentials"))
        .set("RUNCOMFY_API_TOKEN", "tok-api-token")
        .set("RUNCOMFY_TOKEN", "tok-token")
        .set("RUNCOMFY_API_KEY", "tok-api-key")
        .set("XDG_CONFIG_HOME", &format!("{dir}/xdg"))
}

fn private(desk: &Desk, name: &str, bytes: &[u8]) -> PathBuf {
    let path = desk.write(name, bytes);
    chmod(&path, 0o600);
    path
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("our own file");
}

#[cfg(not(unix))]
fn chmod(_path: &Path, _mode: u32) {}

fn search(desk: &Desk) -> TokenSearch {
    find_token(&desk.sources, &desk.loaded().config).unwrap_or_else(|error| panic!("{error}"))
}

fn found(desk: &Desk) -> (String, String) {
    let token = search(desk).token.expect("a token");
    (token.secret.expose_secret().to_owned(), desk.without_folder(&token.source.to_string()))
}

fn refusal(desk: &Desk) -> String {
    let error = find_token(&desk.sources, &desk.loaded().config).expect_err("no token");
    desk.without_folder(&error.to_string())
}

// It compares paths in Unix notation.
#[cfg(unix)]
#[test]
fn the_first_place_that_holds_a_token_wins() {
    let mut desk = full_desk();
    let check = |desk: &Desk, token: &str, source: &str| {
        assert_eq!(found(desk), (token.to_owned(), source.to_owned()));
    };
    check(&desk, "tok-credential", "systemd credential credentials/runcomfy_token");
    std::fs::remove_file(desk.dir.path().join("credentials/runcomfy_token")).expect("it is there");
    check(&desk, "tok-named", "file named");
    desk.sources.explicit = Some(desk.write("config.toml", b"state_dir = \"state\""));
    check(&desk, "tok-api-token", "environment RUNCOMFY_API_TOKEN");
    desk = desk.set("RUNCOMFY_API_TOKEN", "  ");
    check(&desk, "tok-token", "environment RUNCOMFY_TOKEN");
    desk.sources.env.remove("RUNCOMFY_TOKEN");
    check(&desk, "tok-api-key", "environment RUNCOMFY_API_KEY");
    desk.sources.env.remove("RUNCOMFY_API_KEY");
    check(&desk, "tok-user", "file user/runcomfy_token");
    std::fs::remove_file(desk.dir.path().join("user/runcomfy_token")).expect("it is there");
    check(&desk, "tok-state", "file state/runcomfy_token");
    std::fs::remove_file(desk.dir.path().join("state/runcomfy_token")).expect("it is there");
    check(&desk, "tok-official", "file xdg/runcomfy/token.json of RunComfy's command line");
    std::fs::remove_file(desk.dir.path().join("xdg/runcomfy/token.json")).expect("it is there");
    assert_eq!(search(&desk), TokenSearch { token: None, warnings: Vec::new() });
}

#[test]
fn a_named_folder_of_the_official_command_line_is_the_only_one() {
    let desk = Desk::new();
    let dir = desk.dir.path().display().to_string();
    private(&desk, "token.json", br#"{"access_token":"tok-here"}"#);
    let desk = desk.set("RUNCOMFY_CONFIG_DIR", &dir).set("XDG_CONFIG_HOME", "/nowhere");
    assert_eq!(found(&desk).0, "tok-here");
}

#[test]
fn a_named_file_that_is_missing_or_empty_is_an_error_and_nothing_else_is_tried() {
    let desk = Desk::with("[serverless]\ntoken_file = \"gone\"").set("RUNCOMFY_API_TOKEN", "tok");
    assert_eq!(
        refusal(&desk),
        "the file set with `serverless.token_file`, gone cannot be read: entity not found; write \
         the token into it, or correct `serverless.token_file`"
    );
    private(&desk, "gone", b" \n");
    assert_eq!(refusal(&desk), "file gone does not contain a token: it is empty");
}

#[test]
fn what_cannot_stand_in_a_header_is_refused_and_not_repeated() {
    for bad in ["two words", "line\nbreak", "pro\u{e9}", "nul\0", "tab\there"] {
        let desk = Desk::new().set("RUNCOMFY_TOKEN", bad);
        let refusal = refusal(&desk);
        assert!(
            refusal.starts_with(
                "environment RUNCOMFY_TOKEN does not contain a token: it contains white space"
            ),
            "{refusal}"
        );
        assert!(!refusal.contains(bad), "{refusal}");
    }
    let desk = Desk::new().set("RUNCOMFY_TOKEN", &"x".repeat(5000));
    assert!(refusal(&desk).ends_with("it is longer than any token"));
    let desk = Desk::with("[serverless]\ntoken_file = \"big\"");
    private(&desk, "big", &vec![b'x'; 70_000]);
    assert!(refusal(&desk).contains("it is larger than 64 KB"));
}

#[cfg(unix)]
#[test]
fn a_token_that_others_can_read_is_used_with_a_warning() {
    let desk = Desk::with("[serverless]\ntoken_file = \"named\"");
    chmod(&private(&desk, "named", b"tok"), 0o644);
    let search = search(&desk);
    assert!(search.token.is_some());
    let warnings: Vec<_> = search.warnings.iter().map(|line| desk.without_folder(line)).collect();
    assert_eq!(
        warnings,
        ["named contains a token and can be read by others; run: chmod 600 named"]
    );
}

#[test]
fn a_broken_file_of_the_official_command_line_is_a_warning() {
    for (content, why) in [
        (&b"{"[..], "is not JSON"),
        (b"[]", "has no `access_token`"),
        (b"{\"access_token\":7}", "has no `access_token`"),
        (b"{\"access_token\":\"a b\"}", "has an `access_token` that is not a token"),
    ] {
        let desk = Desk::new();
        private(&desk, "token.json", content);
        let dir = desk.dir.path().display().to_string();
        let search = search(&desk.set("RUNCOMFY_CONFIG_DIR", &dir));
        assert!(search.token.is_none());
        assert!(search.warnings[0].ends_with(why), "{:?}", search.warnings);
    }
}

#[test]
fn a_token_shows_where_it_is_from_and_never_itself() {
    let desk = Desk::new().set("RUNCOMFY_TOKEN", "tok-unseen");
    let search = search(&desk);
    assert!(!format!("{search:?} {search:#?}").contains("unseen"));
    let token = search.token.expect("a token");
    assert_eq!(token.source, TokenSource::Variable("RUNCOMFY_TOKEN"));
    assert_eq!(token, token.clone());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_file_is_a_token_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let desk = Desk::with("[serverless]\ntoken_file = \"named\"");
        private(&desk, "named", &bytes);
        if let Ok(search) = find_token(&desk.sources, &desk.loaded().config) {
            let token = search.token.expect("it was named");
            prop_assert!(token.secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
