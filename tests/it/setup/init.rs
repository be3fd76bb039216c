//! The first configuration: which checkout, which settings are copied, and that nothing is replaced
//! without permission.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

use super::said;

/// A home folder that may contain checkouts.
struct InitFixture(TempDir);

impl InitFixture {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("conjured-it-").tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        // The system's folder for temporary files may be a symbolic link.
        self.0.path().canonicalize().expect("there").join(name)
    }

    /// Creates a CONJURE checkout.
    fn checkout(&self, name: &str) -> PathBuf {
        let root = self.path(name);
        for folder in ["launcher", "scripts/addons/conjure", "data/generated_text"] {
            fs::create_dir_all(root.join(folder)).expect("makes");
        }
        fs::write(root.join("launcher/main.py"), "").expect("writes");
        root
    }

    fn config(&self) -> PathBuf {
        self.path(".config/conjured/config.toml")
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_conjured"));
        command.env_clear().env("HOME", self.path("")).current_dir(folder).args(arguments);
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(&self.path(""), arguments).output().expect("the binary starts")
    }

    fn written(&self) -> String {
        fs::read_to_string(self.config()).expect("a configuration")
    }
}

#[test]
fn a_checkout_in_a_usual_place_becomes_a_commented_configuration_that_loads_without_a_word() {
    let fixture = InitFixture::new();
    let root = fixture.checkout("Documents/CONJURE");
    let output = fixture.run(&["init", "--deployment", "dep-7", "--mode", "serverless"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let told = said(&output);
    for part in [
        root.to_str().expect("UTF-8"),
        "launcher/main.py",
        "conjured login",
        "conjured doctor",
        "conjured run",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let text = fixture.written();
    assert!(text.contains(&format!("root = \"{}\"", root.display())), "{text}");
    assert!(text.contains("\nmode = \"serverless\"  # from --mode\n"), "{text}");
    assert!(text.contains("\ndeployment_id = \"dep-7\"  # from --deployment\n"), "{text}");
    assert!(text.contains("\n#prompt_quiet_ms = 300\n"), "{text}");
    let active =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])).count();
    assert_eq!(active, 3, "{text}");
    assert_eq!(fs::metadata(fixture.config()).expect("there").permissions().mode() & 0o7777, 0o600);

    let output = fixture.run(&["doctor", "--offline", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = json["checks"].as_array().expect("a list");
    let configuration: Vec<_> =
        checks.iter().filter(|check| check["name"] == "configuration").collect();
    assert_eq!(configuration.len(), 1, "{configuration:?}");
    assert_eq!(configuration[0]["verdict"], "ok", "{configuration:?}");
}

#[test]
fn what_the_environment_says_is_taken_over_and_a_token_is_only_named() {
    let fixture = InitFixture::new();
    let root = fixture.checkout("CONJURE");
    let dotenv = "# mine\nexport RUNCOMFY_DEPLOYMENT_ID='from-the-file'\nRUNCOMFY_DEFAULT_STEPS_FLUX=12\n\
                  RUNCOMFY_API_TOKEN=secret-in-the-file\nOPENAI_API_KEY=also-secret\n";
    fs::write(root.join(".env"), dotenv).expect("writes");
    let output = fixture
        .command(&fixture.path(""), &["init"])
        .env("RUNCOMFY_DEPLOYMENT_ID", "from-the-shell")
        .env("RUNCOMFY_COST_LIMIT_PER_SESSION", "2.50")
        .env("RUNCOMFY_FALLBACK_TO_LOCAL", "false")
        .output()
        .expect("starts");
    let told = said(&output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let text = fixture.written();
    for line in [
        "mode = \"serverless\"  # from RUNCOMFY_FALLBACK_TO_LOCAL",
        "deployment_id = \"from-the-shell\"  # from RUNCOMFY_DEPLOYMENT_ID",
        "steps_flux = 12  # from RUNCOMFY_DEFAULT_STEPS_FLUX",
        "per_session_usd = 2.5  # from RUNCOMFY_COST_LIMIT_PER_SESSION",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    assert!(told.contains("RUNCOMFY_API_TOKEN of ") && told.contains("not copied"), "{told}");
    assert!(!text.contains("secret") && !told.contains("secret"), "{told}{text}");
}

#[test]
fn each_mode_gets_a_configuration_that_fits_and_is_told_what_is_still_to_be_set() {
    for (mode, told, untold) in [
        (
            "LOCAL",
            &["start ComfyUI so that it answers at http://127.0.0.1:8188"][..],
            &["deployment_id", " login"][..],
        ),
        (
            "cloud",
            &[
                "set cloud.user_id in this file",
                "set cloud.workflow_version_id in this file",
                " login",
            ],
            &["deployment_id"],
        ),
        (
            "Serverless",
            &["set serverless.deployment_id in this file", "docs/runcomfy.md", " login"],
            &["only run locally", "ComfyUI"],
        ),
        (
            "auto",
            &[
                "set serverless.deployment_id in this file",
                "until then jobs can only run locally",
                " login",
            ],
            &["cloud."],
        ),
    ] {
        let fixture = InitFixture::new();
        fixture.checkout("CONJURE");
        let output = fixture.run(&["init", "--mode", mode, "--yes"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{mode}: {said}");
        for part in told {
            assert!(said.contains(part), "{mode}: {part}: {said}");
        }
        for part in untold {
            assert!(!said.contains(part), "{mode}: {part}: {said}");
        }
        let line = format!("\nmode = \"{}\"  # from --mode\n", mode.to_lowercase());
        assert_eq!(fixture.written().contains(&line), mode != "auto", "{}", fixture.written());
    }
}

#[test]
fn a_shell_that_makes_another_mode_of_it_is_told_at_once() {
    let fixture = InitFixture::new();
    fixture.checkout("CONJURE");
    let mut command = fixture.command(&fixture.path(""), &["init", "--mode", "auto", "--yes"]);
    let output = command.env("RUNCOMFY_FALLBACK_TO_LOCAL", "false").output().expect("starts");
    let told = said(&output);
    assert!(told.contains("set the mode \"serverless\" instead of \"auto\""), "{told}");
    assert!(told.contains("unset RUNCOMFY_FALLBACK_TO_LOCAL"), "{told}");
}

#[test]
fn machines_and_tokens_of_conjures_env_file_are_seen_and_no_token_is_copied() {
    let fixture = InitFixture::new();
    let root = fixture.checkout("CONJURE");
    let dotenv = "CONJURE_IDLE_TIMEOUT=600\nRUNCOMFY_DEFAULT_DURATION=7200\nHF_TOKEN=hub-secret\n";
    fs::write(root.join(".env"), dotenv).expect("writes");
    let output = fixture.run(&["init", "--mode", "local"]);
    let (told, text) = (said(&output), fixture.written());
    assert!(text.contains("\nidle_stop_s = 600  # from CONJURE_IDLE_TIMEOUT\n"), "{text}");
    assert!(text.contains("\nmax_minutes = 120  # from RUNCOMFY_DEFAULT_DURATION\n"), "{text}");
    assert!(told.contains("found a Hugging Face token: HF_TOKEN in "), "{told}");
    assert!(!text.contains("hub-secret") && !told.contains("hub-secret"), "{told}{text}");
}

#[test]
fn a_wrong_variable_is_refused_before_anything_is_written() {
    let fixture = InitFixture::new();
    fixture.checkout("CONJURE");
    let mut command = fixture.command(&fixture.path(""), &["init"]);
    let output = command.env("RUNCOMFY_DEFAULT_STEPS_FLUX", "many").output().expect("starts");
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("RUNCOMFY_DEFAULT_STEPS_FLUX"), "{}", said(&output));
    assert!(!fixture.config().exists());
}

#[test]
fn a_configuration_that_is_there_is_replaced_only_by_force_and_kept_beside_the_new_one() {
    let fixture = InitFixture::new();
    fixture.checkout("CONJURE");
    let old = "mode = \"serverless\" # precious\n";
    fs::create_dir_all(fixture.config().parent().expect("a folder")).expect("makes");
    fs::write(fixture.config(), old).expect("writes");
    for arguments in [&["init"][..], &["init", "--yes"]] {
        let output = fixture.run(arguments);
        assert_eq!(output.status.code(), Some(64), "{}", said(&output));
        assert!(said(&output).contains("--force"), "{}", said(&output));
        assert_eq!(fixture.written(), old);
    }
    let output = fixture.run(&["init", "--print"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("[[project]]"));
    assert_eq!(fixture.written(), old, "printing writes nothing");
    assert_eq!(fixture.run(&["init", "--force"]).status.code(), Some(0));
    assert_ne!(fixture.written(), old);
    let kept = fixture.config().with_extension("toml.before");
    assert_eq!(fs::read_to_string(&kept).expect("kept"), old);
    assert_eq!(fs::metadata(&kept).expect("kept").permissions().mode() & 0o7777, 0o600);
}

#[test]
fn the_working_folder_or_one_above_it_wins_over_the_usual_places() {
    let fixture = InitFixture::new();
    let other = fixture.checkout("CONJURE");
    let here = fixture.checkout("elsewhere/mine");
    let mut command = fixture.command(&here.join("launcher"), &["init"]);
    let output = command.output().expect("starts");
    let told = said(&output);
    assert!(told.contains("contains the working folder"), "{told}");
    assert!(told.contains(&format!("also found: {}", other.display())), "{told}");
    assert!(fixture.written().contains(&format!("root = \"{}\"", here.display())));
}

#[test]
fn of_several_checkouts_none_is_taken_unasked_and_all_are_listed() {
    let fixture = InitFixture::new();
    let (one, two) = (fixture.checkout("CONJURE"), fixture.checkout("src/CONJURE"));
    let output = fixture.run(&["init"]);
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    for root in [&one, &two] {
        assert!(said(&output).contains(root.to_str().expect("UTF-8")), "{}", said(&output));
    }
    assert!(!fixture.config().exists());
    let root = two.to_str().expect("UTF-8");
    assert_eq!(fixture.run(&["init", "--root", root]).status.code(), Some(0));
    assert!(fixture.written().contains(&format!("root = \"{root}\"")));
}

#[test]
fn where_there_is_no_checkout_it_says_so_and_writes_nothing() {
    let fixture = InitFixture::new();
    let output = fixture.run(&["init"]);
    assert_eq!(output.status.code(), Some(66), "{}", said(&output));
    assert!(said(&output).contains("--root DIR"), "{}", said(&output));
    let output = fixture.run(&["init", "--root", "no/such/folder"]);
    assert_eq!(output.status.code(), Some(66), "{}", said(&output));
    assert!(!fixture.config().exists());
}

#[test]
fn without_a_home_the_file_is_named_by_hand() {
    let fixture = InitFixture::new();
    let root = fixture.checkout("CONJURE");
    let file = fixture.path("somewhere/else.toml");
    let target = file.to_str().expect("UTF-8");
    let mut command = fixture.command(&root, &["--config", target, "init"]);
    let output = command.output().expect("starts");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("conjured --config {target} run")),
        "{}",
        said(&output)
    );
    assert!(file.is_file());
}

#[test]
fn a_link_to_a_configuration_stays_a_link() {
    let fixture = InitFixture::new();
    fixture.checkout("CONJURE");
    let real = fixture.path("dotfiles.toml");
    fs::write(&real, "mode = \"auto\"\n").expect("writes");
    fs::create_dir_all(fixture.config().parent().expect("a folder")).expect("makes");
    std::os::unix::fs::symlink(&real, fixture.config()).expect("links");
    assert_eq!(fixture.run(&["init", "--force"]).status.code(), Some(0));
    assert!(fixture.config().is_symlink());
    assert!(fs::read_to_string(&real).expect("reads").contains("[[project]]"));
}
