//! The Hugging Face token, which is optional: it raises the user's quota on a Space and gives
//! access to private Spaces.
//!
//! The search order; the first one found is used:
//! 1. the systemd credential `huggingface_token`;
//! 2. `HUGGINGFACE_HUB_ACCESS_TOKEN` (CONJURE's name for it), then `HF_TOKEN` (the hub's own) in
//!    the environment;
//! 3. the file `huggingface_token` next to the user's configuration, then in the state folder;
//! 4. the same two variables in the `.env` of the served checkouts, the first that has one.
//!
//! The file that the hub's own command line writes is not read: the token is sent to whatever Space
//! is configured, and a login there does not mean consent to that. The same is true for any other
//! program's stored token.

use super::{
    SecretError, Sources, TokenSearch, TokenSource, read_if_there, stored_files, token_in,
    warn_if_readable_by_others,
};
use crate::config::{
    settings::{Config, ProjectConfig},
    sources::{dotenv, files::read_small},
};

/// The name of the systemd credential and of our own token file.
pub const HUGGINGFACE_TOKEN_NAME: &str = "huggingface_token";

/// The variables that may contain the token, in this order.
pub const HUGGINGFACE_TOKEN_VARIABLES: [&str; 2] = ["HUGGINGFACE_HUB_ACCESS_TOKEN", "HF_TOKEN"];

/// The largest `.env` that is read.
const DOTENV_LIMIT: u64 = 64 * 1024;

/// Looks for the token. It reads only the given sources and files, never the process or the
/// network. A missing token is not an error.
pub fn find_huggingface_token(
    sources: &Sources,
    config: &Config,
) -> Result<TokenSearch, SecretError> {
    let mut warnings = Vec::new();
    let found = |token, warnings| Ok(TokenSearch { token: Some(token), warnings });
    if let Some(path) = sources.credential(HUGGINGFACE_TOKEN_NAME)
        && let Some(bytes) = read_if_there(&path, "the systemd credential")?
    {
        return found(token_in(&bytes, TokenSource::Credential(path))?, warnings);
    }
    for name in HUGGINGFACE_TOKEN_VARIABLES {
        if let Some(text) = sources.variable(name) {
            return found(token_in(text.as_bytes(), TokenSource::Variable(name))?, warnings);
        }
    }
    for path in stored_files(sources, config, HUGGINGFACE_TOKEN_NAME) {
        if let Some(bytes) = read_if_there(&path, "the token file")? {
            warn_if_readable_by_others(&path, &mut warnings);
            return found(token_in(&bytes, TokenSource::File(path))?, warnings);
        }
    }
    let answers = |project: &&ProjectConfig| !sources.silent_roots.contains(&project.root);
    for project in config.projects.iter().filter(answers) {
        let path = project.root.join(".env");
        // The file is CONJURE's and the token is optional, so an unreadable file is ignored.
        let Ok(bytes) = read_small(&path, DOTENV_LIMIT) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let set = dotenv::read(&text, |name| HUGGINGFACE_TOKEN_VARIABLES.contains(&name));
        for name in HUGGINGFACE_TOKEN_VARIABLES {
            let Some(text) = set.get(name).filter(|text| !text.trim().is_empty()) else { continue };
            match token_in(text.as_bytes(), TokenSource::Dotenv(path.clone(), name)) {
                Ok(token) => return found(token, warnings),
                Err(error) => warnings.push(format!("{error}; it is not used")),
            }
        }
    }
    Ok(TokenSearch { token: None, warnings })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::tests::ConfigFixture;

    fn search(fixture: &ConfigFixture) -> TokenSearch {
        let config = fixture.loaded().config;
        find_huggingface_token(&fixture.sources, &config).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn the_first_place_that_holds_a_huggingface_token_wins() {
        let mut fixture = ConfigFixture::with(
            "state_dir = \"state\"\n[[project]]\nroot = \"one\"\n[[project]]\nroot = \"two\"\n",
        );
        for folder in ["credentials", "state", "user", "one", "two"] {
            std::fs::create_dir_all(fixture.dir.path().join(folder)).expect("a folder");
        }
        fixture.sources.user_file = Some(fixture.dir.path().join("user/config.toml"));
        fixture.write("one/.env", b"HF_TOKEN=\n");
        fixture.write(
            "two/.env",
            b"OTHER=1\nexport HUGGINGFACE_HUB_ACCESS_TOKEN='tok-dotenv' # mine\n",
        );
        fixture.write("credentials/huggingface_token", b"tok-credential\n");
        fixture.write("user/huggingface_token", b"tok-user");
        fixture.write("state/huggingface_token", b"tok-state\n");
        let dir = fixture.dir.path().display().to_string();
        let mut fixture = fixture
            .set("CREDENTIALS_DIRECTORY", &format!("{dir}/credentials"))
            .set("HUGGINGFACE_HUB_ACCESS_TOKEN", "tok-conjure")
            .set("HF_TOKEN", "tok-hub");
        let check = |fixture: &ConfigFixture, expected: &str, place: &str| {
            let token = search(fixture).token.expect("a token");
            assert_eq!(token.secret.expose_secret(), expected);
            // Write separators the same way on every system, so that the expected text is the same.
            let plain = |text: &str| text.replace('\\', "/");
            let folder = format!("{}/", plain(&fixture.dir.path().display().to_string()));
            assert_eq!(plain(&token.source.to_string()).replace(&folder, ""), place);
        };
        let gone = |fixture: &ConfigFixture, name: &str| {
            std::fs::remove_file(fixture.dir.path().join(name)).expect("it is there");
        };
        check(&fixture, "tok-credential", "systemd credential credentials/huggingface_token");
        gone(&fixture, "credentials/huggingface_token");
        check(&fixture, "tok-conjure", "environment HUGGINGFACE_HUB_ACCESS_TOKEN");
        fixture = fixture.set("HUGGINGFACE_HUB_ACCESS_TOKEN", " ");
        check(&fixture, "tok-hub", "environment HF_TOKEN");
        fixture.sources.env.remove("HF_TOKEN");
        check(&fixture, "tok-user", "file user/huggingface_token");
        gone(&fixture, "user/huggingface_token");
        check(&fixture, "tok-state", "file state/huggingface_token");
        gone(&fixture, "state/huggingface_token");
        check(&fixture, "tok-dotenv", "HUGGINGFACE_HUB_ACCESS_TOKEN in two/.env");
        gone(&fixture, "two/.env");
        assert_eq!(search(&fixture), TokenSearch { token: None, warnings: Vec::new() });
    }

    #[test]
    fn one_that_is_no_token_is_told_and_never_shown() {
        let fixture = ConfigFixture::new().set("HF_TOKEN", "two unseen");
        let config = fixture.loaded().config;
        let error = find_huggingface_token(&fixture.sources, &config).expect_err("no token");
        assert!(error.to_string().starts_with("environment HF_TOKEN does not contain a token: "));
        assert!(!error.to_string().contains("unseen"), "{error}");

        let fixture = ConfigFixture::with("[[project]]\nroot = \".\"\n");
        fixture.write(".env", b"HF_TOKEN='two unseen'\n");
        let search = search(&fixture);
        assert!(search.token.is_none());
        let told = fixture.without_folder(&search.warnings.join("\n"));
        assert!(told.starts_with("HF_TOKEN in .env does not contain a token: "), "{told}");
        assert!(!format!("{search:?}").contains("unseen"));
    }
}
