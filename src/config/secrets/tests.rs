//! Checks where a token is found, in which order, and that it is never shown.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::{TokenSearch, TokenSource, find_token};
use crate::config::tests::ConfigFixture;

/// Returns a [`ManagerInbox`] with a different token at every source; each token names its source.
fn full_desk() -> ConfigFixture {
    let mut fixture =
        ConfigFixture::with("state_dir = \"state\"\n[serverless]\ntoken_file = \"named\"\n");
    for folder in ["credentials", "state", "user", "xdg/runcomfy"] {
        std::fs::create_dir_all(fixture.dir.path().join(folder)).expect("a folder");
    }
    fixture.sources.user_file = Some(fixture.dir.path().join("user/config.toml"));
    private(&fixture, "credentials/runcomfy_token", b"tok-credential\n");
    private(&fixture, "named", b"\xef\xbb\xbf tok-named \r\n");
    private(&fixture, "user/runcomfy_token", b"tok-user");
    private(&fixture, "state/runcomfy_token", b"tok-state");
    private(
        &fixture,
        "xdg/runcomfy/token.json",
        br#"{"access_token":"tok-official","expires_at":1}"#,
    );
    let dir = fixture.dir.path().display().to_string();
    fixture
        .set("CREDENTIALS_DIRECTORY", &format!("{dir}/credentials"))
        .set("RUNCOMFY_API_TOKEN", "tok-api-token")
        .set("RUNCOMFY_TOKEN", "tok-token")
        .set("RUNCOMFY_API_KEY", "tok-api-key")
        .set("XDG_CONFIG_HOME", &format!("{dir}/xdg"))
}

fn private(fixture: &ConfigFixture, name: &str, bytes: &[u8]) -> PathBuf {
    let path = fixture.write(name, bytes);
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

fn search(fixture: &ConfigFixture) -> TokenSearch {
    find_token(&fixture.sources, &fixture.loaded().config).unwrap_or_else(|error| panic!("{error}"))
}

fn found(fixture: &ConfigFixture) -> (String, String) {
    let token = search(fixture).token.expect("a token");
    (token.secret.expose_secret().to_owned(), fixture.without_folder(&token.source.to_string()))
}

fn refusal(fixture: &ConfigFixture) -> String {
    let error = find_token(&fixture.sources, &fixture.loaded().config).expect_err("no token");
    fixture.without_folder(&error.to_string())
}

// It compares paths in Unix notation.
#[cfg(unix)]
#[test]
fn the_first_place_that_holds_a_token_wins() {
    let mut fixture = full_desk();
    let check = |fixture: &ConfigFixture, token: &str, source: &str| {
        assert_eq!(found(fixture), (token.to_owned(), source.to_owned()));
    };
    check(&fixture, "tok-credential", "systemd credential credentials/runcomfy_token");
    std::fs::remove_file(fixture.dir.path().join("credentials/runcomfy_token"))
        .expect("it is there");
    check(&fixture, "tok-named", "file named");
    fixture.sources.explicit = Some(fixture.write("config.toml", b"state_dir = \"state\""));
    check(&fixture, "tok-api-token", "environment RUNCOMFY_API_TOKEN");
    fixture = fixture.set("RUNCOMFY_API_TOKEN", "  ");
    check(&fixture, "tok-token", "environment RUNCOMFY_TOKEN");
    fixture.sources.env.remove("RUNCOMFY_TOKEN");
    check(&fixture, "tok-api-key", "environment RUNCOMFY_API_KEY");
    fixture.sources.env.remove("RUNCOMFY_API_KEY");
    check(&fixture, "tok-user", "file user/runcomfy_token");
    std::fs::remove_file(fixture.dir.path().join("user/runcomfy_token")).expect("it is there");
    check(&fixture, "tok-state", "file state/runcomfy_token");
    std::fs::remove_file(fixture.dir.path().join("state/runcomfy_token")).expect("it is there");
    check(&fixture, "tok-official", "file xdg/runcomfy/token.json of RunComfy's command line");
    std::fs::remove_file(fixture.dir.path().join("xdg/runcomfy/token.json")).expect("it is there");
    assert_eq!(search(&fixture), TokenSearch { token: None, warnings: Vec::new() });
}

#[test]
fn a_named_folder_of_the_official_command_line_is_the_only_one() {
    let fixture = ConfigFixture::new();
    let dir = fixture.dir.path().display().to_string();
    private(&fixture, "token.json", br#"{"access_token":"tok-here"}"#);
    let fixture = fixture.set("RUNCOMFY_CONFIG_DIR", &dir).set("XDG_CONFIG_HOME", "/nowhere");
    assert_eq!(found(&fixture).0, "tok-here");
}

#[test]
fn a_named_file_that_is_missing_or_empty_is_an_error_and_nothing_else_is_tried() {
    let fixture =
        ConfigFixture::with("[serverless]\ntoken_file = \"gone\"").set("RUNCOMFY_API_TOKEN", "tok");
    assert_eq!(
        refusal(&fixture),
        "the file set with `serverless.token_file`, gone cannot be read: entity not found; write \
         the token into it, or correct `serverless.token_file`"
    );
    private(&fixture, "gone", b" \n");
    assert_eq!(refusal(&fixture), "file gone does not contain a token: it is empty");
}

#[test]
fn what_cannot_stand_in_a_header_is_refused_and_not_repeated() {
    for bad in ["two words", "line\nbreak", "pro\u{e9}", "nul\0", "tab\there"] {
        let fixture = ConfigFixture::new().set("RUNCOMFY_TOKEN", bad);
        let refusal = refusal(&fixture);
        assert!(
            refusal.starts_with(
                "environment RUNCOMFY_TOKEN does not contain a token: it contains white space"
            ),
            "{refusal}"
        );
        assert!(!refusal.contains(bad), "{refusal}");
    }
    let fixture = ConfigFixture::new().set("RUNCOMFY_TOKEN", &"x".repeat(5000));
    assert!(
        refusal(&fixture).ends_with("it has more than 4096 bytes; it must contain only the token")
    );
    let fixture = ConfigFixture::with("[serverless]\ntoken_file = \"big\"");
    private(&fixture, "big", &vec![b'x'; 70_000]);
    assert!(refusal(&fixture).contains("it is larger than 64 KB"));
}

#[cfg(unix)]
#[test]
fn a_token_that_others_can_read_is_used_with_a_warning() {
    let fixture = ConfigFixture::with("[serverless]\ntoken_file = \"named\"");
    chmod(&private(&fixture, "named", b"tok"), 0o644);
    let search = search(&fixture);
    assert!(search.token.is_some());
    let warnings: Vec<_> =
        search.warnings.iter().map(|line| fixture.without_folder(line)).collect();
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
        let fixture = ConfigFixture::new();
        private(&fixture, "token.json", content);
        let dir = fixture.dir.path().display().to_string();
        let search = search(&fixture.set("RUNCOMFY_CONFIG_DIR", &dir));
        assert!(search.token.is_none());
        assert!(search.warnings[0].ends_with(why), "{:?}", search.warnings);
    }
}

#[test]
fn a_token_shows_where_it_is_from_and_never_itself() {
    let fixture = ConfigFixture::new().set("RUNCOMFY_TOKEN", "tok-unseen");
    let search = search(&fixture);
    assert!(!format!("{search:?} {search:#?}").contains("unseen"));
    let token = search.token.expect("a token");
    assert_eq!(token.source, TokenSource::Variable("RUNCOMFY_TOKEN"));
    assert_eq!(token, token.clone());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_file_is_a_token_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let fixture = ConfigFixture::with("[serverless]\ntoken_file = \"named\"");
        private(&fixture, "named", &bytes);
        if let Ok(search) = find_token(&fixture.sources, &fixture.loaded().config) {
            let token = search.token.expect("it was named");
            prop_assert!(token.secret.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
