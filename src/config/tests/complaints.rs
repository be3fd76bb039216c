//! Checks the exact text of every kind of error.

use super::ConfigFixture;

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(ConfigFixture::with(text).complaints(), expected, "{text}");
}

#[test]
fn an_unknown_key_names_its_line_its_section_and_the_key_that_was_meant() {
    check(
        "[trigger]\non = \"either\"\nrender_quite_ms = 3\n",
        "config.toml:3: unknown key `render_quite_ms` in [trigger]\n  did you mean `render_quiet_ms`?",
    );
    check("colour = 1", "config.toml:1: unknown key `colour` at the top level");
    check(
        "[generation.bind]\npromt = \"41.value\"",
        "config.toml:2: unknown key `promt` in [generation.bind]\n  did you mean `prompt`?",
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    check(
        "[trigger]\nposition = 1\nplan = \"pro\"\n[log]\nmode = \"auto\"",
        "config.toml:2: unknown key `position` in [trigger]\n\nconfig.toml:3: unknown key `plan` \
         in [trigger]\n  it belongs in [budget]\n\nconfig.toml:5: unknown key `mode` in [log]\n  \
         it belongs at the top of the file, before the first [section]",
    );
}

#[test]
fn an_unknown_section_names_the_one_that_was_meant() {
    check(
        "[triger]\non = \"either\"",
        "config.toml:1: unknown section [triger]\n  did you mean `[trigger]`?",
    );
}

#[test]
fn a_wrong_type_says_what_is_expected_and_what_was_found() {
    check(
        "[trigger]\nprompt_quiet_ms = \"300\"",
        "config.toml:2: `trigger.prompt_quiet_ms` must be a whole number of milliseconds, not the text \"300\"",
    );
    check(
        "[trigger]\nmin_interval_s = true",
        "config.toml:2: `trigger.min_interval_s` must be a number of seconds, not true",
    );
    check(
        "[trigger]\nhold_while_sculpting = 1",
        "config.toml:2: `trigger.hold_while_sculpting` must be true or false, not the number 1",
    );
    check(
        "mode = 1979-05-27",
        "config.toml:1: `mode` must be a text in quotes, not a date or a time",
    );
    check(
        "[serverless]\ndownload_hosts = \".runcomfy.net\"",
        "config.toml:2: `serverless.download_hosts` must be a list of host names: [\"…\", \"…\"], \
         not the text \".runcomfy.net\"",
    );
    check("trigger = 3", "config.toml:1: `trigger` must be a section, [trigger], not the number 3");
    check(
        "[trigger]\nignore_prompts = [\n  \"^null$\",\n  7,\n]",
        "config.toml:4: `trigger.ignore_prompts` must be a text in quotes, not the number 7",
    );
}

#[test]
fn a_number_out_of_range_says_the_range() {
    check(
        "[serverless]\npoll_min_ms = 10",
        "config.toml:2: `serverless.poll_min_ms` is 10, but must be between 50 and 60000 milliseconds",
    );
    check(
        "[trigger]\nmax_jobs_per_hour = -1",
        "config.toml:2: `trigger.max_jobs_per_hour` is -1, but must be between 1 and 3600",
    );
    check(
        "[budget]\nper_day_usd = inf",
        "config.toml:2: `budget.per_day_usd` is a huge number, but must be between 0 and 1000000 US dollars",
    );
    check(
        "[generation]\nseed = 99999999999999999999",
        "config.toml:2: `generation.seed` is a huge number, but must be between 0 and 9007199254740991",
    );
    check(
        "[local]\ntimeout_s = 59",
        "config.toml:2: `local.timeout_s` is 59, but must be between 60 and 86400 seconds",
    );
    check(
        "[cloud]\nstart_timeout_s = 3601",
        "config.toml:2: `cloud.start_timeout_s` is 3601, but must be between 60 and 3600 seconds",
    );
}

#[test]
fn a_wrong_word_lists_the_words_and_the_one_that_was_meant() {
    check(
        "mode = \"severless\"",
        "config.toml:1: `mode` cannot be \"severless\"; it is one of `auto`, `serverless`, `local`, `cloud`\n  \
         did you mean `serverless`?",
    );
    check(
        "[generation]\nworkflow = \"conjure_flux\"",
        "config.toml:2: `generation.workflow` cannot be \"conjure_flux\"; it is one of `conjure_flux_mesh`, \
         `conjure_flux_mesh_local`, `the path of a .json file`\n  did you mean `conjure_flux_mesh`?",
    );
    check(
        "[budget]\nhardware = \"x-lrge\"",
        "config.toml:2: `budget.hardware` cannot be \"x-lrge\"; it is one of `medium`, `large`, `x-large`, \
         `x-large-plus`, `2x-large`, `2x-large-plus`, `3x-large`\n  did you mean `x-large`?",
    );
}

#[test]
fn a_syntax_error_shows_the_line_with_a_caret_below() {
    check(
        "mode = \"auto\"\n[trigger]\non = either\n",
        "config.toml:3: column 6: string values must be quoted, expected literal string\n  \
         3 | on = either\n    |      ^",
    );
    check(
        "[trigger]\non = \"either\"\n[trigger]\nwatch = \"poll\"\n",
        "config.toml:3: column 2: duplicate key\n  3 | [trigger]\n    |  ^",
    );
}

#[test]
fn every_syntax_error_of_a_file_is_told() {
    let complaints = ConfigFixture::with("a = \nb = 1\nc = \"x\nd = [1,\n").complaints();
    for line in ["config.toml:1:", "config.toml:3:", "config.toml:4:"] {
        assert!(complaints.contains(line), "{line}\n{complaints}");
    }
}

#[test]
fn all_complaints_of_all_layers_come_together_by_line() {
    let mut fixture = ConfigFixture::with("mode = 1\n[log]\nlevel = \"loud\"\nkeep_days = 0\n");
    fixture.sources.user_file =
        Some(fixture.write("user.toml", b"[page]\nlisten = \"0.0.0.0:80\"\n"));
    let fixture = fixture.set("CONJURED__LOG__LEVLE", "info");
    assert_eq!(
        fixture.complaints(),
        "user.toml:2: `page.listen` must be an address of this machine only (127.0.0.1 or [::1]), \
         because the page can spend money\n\nconfig.toml:1: `mode` must be a text in quotes, not \
         the number 1\n\nconfig.toml:3: `log.level` cannot be \"loud\"; it is one of `error`, \
         `warn`, `info`, `debug`, `trace`\n\nconfig.toml:4: `log.keep_days` is 0, but must be \
         between 1 and 3650\n\nenvironment variable CONJURED__LOG__LEVLE: there is no setting of \
         this name\n  did you mean `CONJURED__LOG__LEVEL`?"
    );
}

#[test]
fn a_wrong_variable_is_named() {
    let fixture = ConfigFixture::new()
        .set("CONJURED__TRIGGER__RENDER_QUIET_MS", "4s")
        .set("CONJURED__SERVERLESS__ENABLED", "maybe")
        .set("RUNCOMFY_POLL_INTERVAL", "often")
        .set("RUNCOMFY_DEFAULT_STEPS_FLUX", "0");
    assert_eq!(
        fixture.complaints(),
        "environment variable CONJURED__SERVERLESS__ENABLED: `serverless.enabled` must be true or false, \
         not the text \"maybe\"\n\n\
         environment variable CONJURED__TRIGGER__RENDER_QUIET_MS: `trigger.render_quiet_ms` must be a whole number \
         of milliseconds, not the text \"4s\"\n\n\
         environment variable RUNCOMFY_DEFAULT_STEPS_FLUX: `generation.steps_flux` is 0, but must be between 1 and \
         1000\n\n\
         environment variable RUNCOMFY_POLL_INTERVAL: `RUNCOMFY_POLL_INTERVAL` must be a number of seconds, not \
         \"often\""
    );
}

// The system's message differs.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut fixture = ConfigFixture::new();
    fixture.sources.explicit = Some("gone.toml".into());
    assert_eq!(
        fixture.complaints(),
        "gone.toml: cannot be read: No such file or directory (os error 2)"
    );
    std::fs::create_dir(fixture.dir.path().join("gone.toml")).expect("a folder in its place");
    assert_eq!(fixture.complaints(), "gone.toml: cannot be read: Is a directory (os error 21)");
    fixture.sources.explicit = Some(fixture.write("huge.toml", &vec![b'#'; 1024 * 1024 + 1]));
    assert_eq!(
        fixture.complaints(),
        "huge.toml: is larger than 1024 KB; a configuration is a small text file"
    );
    fixture.sources.explicit =
        Some(fixture.write("latin.toml", b"# one\n# two\nname = \"M\xfcller\"\n"));
    assert_eq!(
        fixture.complaints(),
        "latin.toml:3: the file is not UTF-8 text from here on; save it as UTF-8"
    );
}

#[test]
fn addresses_are_checked_for_what_they_would_risk() {
    check(
        "[serverless]\napi_url = \"http://api.runcomfy.net\"",
        "config.toml:2: `serverless.api_url` must begin with https://, because the token is sent \
         there; http:// is for this machine only (127.0.0.1, localhost)",
    );
    check(
        "[serverless]\napi_url = \"https://api.runcomfy.net/prod/v2\"",
        "config.toml:2: `serverless.api_url` must be an origin without a path, such as https://api.runcomfy.net; \
         `serverless.api_version` chooses the path",
    );
    check(
        "[serverless]\napi_url = \"https://me:hunter2@api.runcomfy.net\"",
        "config.toml:2: `serverless.api_url` must not contain a user name or a password",
    );
    check(
        "[serverless]\ndownload_hosts = [\".net\", \"https://a.b\", \"ok.example\", \"h:0\", \"a b\"]",
        "config.toml:2: `serverless.download_hosts` contains \".net\", which is a whole top-level \
         domain; name a domain such as \".runcomfy.net\"\n\nconfig.toml:2: \
         `serverless.download_hosts` contains \"a b\", which is not a host name\n\nconfig.toml:2: \
         `serverless.download_hosts` contains \"h:0\", whose port is not a number from 1 to \
         65535\n\nconfig.toml:2: `serverless.download_hosts` contains \"https://a.b\", but only \
         hosts are allowed: \".runcomfy.net\" for a domain, \"files.runcomfy.net\" for one host",
    );
    check(
        "[page]\nlisten = \"127.0.0.1:8000\"",
        "config.toml:2: `page.listen` must not be port 8000: that is CONJURE's own, and CONJURE \
         ends any program that listens there",
    );
    check(
        "[serverless]\ndeployment_id = \"a/../b\"",
        "config.toml:2: `serverless.deployment_id` must be an id: up to 128 letters, digits, `-`, `_` and `.`",
    );
}

#[test]
fn a_space_is_a_name_or_an_address_that_nobody_else_reads_along() {
    use crate::config::settings::SpaceSetting;
    let set = |value: &str| ConfigFixture::with(&format!("[local]\nmesh_space = \"{value}\"\n"));
    let named = |value: &str| SpaceSetting::Named(value.to_owned());
    let at = |value: &str| SpaceSetting::At(value.parse().expect("a URL"));
    for (value, expected) in [
        (" ada/My_Pack.er-2 ", named("ada/My_Pack.er-2")),
        ("https://huggingface.co/spaces/nvidia/PartPacker", named("nvidia/PartPacker")),
        ("https://huggingface.co/spaces/nvidia/PartPacker/", named("nvidia/PartPacker")),
        ("https://ada-partpacker.hf.space", at("https://ada-partpacker.hf.space/")),
        ("https://gpu.example.org/pack", at("https://gpu.example.org/pack/")),
        ("http://127.0.0.1:7860", at("http://127.0.0.1:7860/")),
        ("http://[::1]:7860/a/", at("http://[::1]:7860/a/")),
    ] {
        assert_eq!(set(value).loaded().config.local.mesh_space, expected, "{value}");
    }
    for (value, why) in [
        ("", "must name a Space as \"owner/name\""),
        ("PartPacker", "an address begins with https://"),
        ("a/b/c", "not \"a/b/c\""),
        ("../b", "not \"../b\""),
        ("a--b/c", "must name a Space"),
        ("a/-b", "must name a Space"),
        ("ä/b", "must name a Space"),
        ("ftp://a/b", "must be a URL such as"),
        (
            "http://gpu.example.org",
            "must begin with https://, because your picture and perhaps a token",
        ),
        ("https://me:word@gpu.example.org", "must not contain a user name or a password"),
        ("https://gpu.example.org?a=b", "must not contain `?`"),
        ("https://huggingface.co/nvidia/PartPacker", "must name one Space of the hub"),
        ("https://huggingface.co/spaces/nvidia", "must name one Space of the hub"),
    ] {
        let complaints = set(value).complaints();
        assert!(complaints.starts_with("config.toml:2: `local.mesh_space` "), "{complaints}");
        assert!(complaints.contains(why), "{value}: {complaints}");
        assert!(!complaints.contains("word@"), "{complaints}");
    }
}

#[test]
fn values_that_contradict_each_other_are_told_where_a_person_wrote_one() {
    check(
        "[serverless]\npoll_max_ms = 100",
        "config.toml:2: `serverless.poll_min_ms` is 250, more than `serverless.poll_max_ms`, which is 100",
    );
    let fixture = ConfigFixture::new()
        .set("RUNCOMFY_FALLBACK_ENABLED", "true")
        .set("RUNCOMFY_FALLBACK_TO_LOCAL", "no");
    assert_eq!(
        fixture.complaints(),
        "environment variable RUNCOMFY_FALLBACK_ENABLED: it contradicts \
         RUNCOMFY_FALLBACK_TO_LOCAL; unset one of them"
    );
}

#[test]
fn a_token_never_stands_in_a_file_and_is_never_repeated() {
    let advice = "looks like a secret, and a token must never be in this file; remove it and run \
                  `conjured login`, or put the token into a file that only you can read and set \
                  `serverless.token_file` to that file, or set RUNCOMFY_API_TOKEN in the environment";
    let made_up = "f00dfacef00dfacef00dfacef00d1234";
    for (text, key) in [
        (format!("[serverless]\ntoken = \"{made_up}\""), "serverless.token"),
        (format!("[serverless]\napi_token = \"{made_up}\""), "serverless.api_token"),
        (format!("\n[serverless.auth]\napi_key = \"{made_up}\""), "serverless.auth"),
        (format!("\napi_key = \"{made_up}\""), "api_key"),
        (format!("[serverless]\ntoken_file = \"{made_up}\""), "serverless.token_file"),
        (format!("[serverless]\ndeployment_id = \"hf_{made_up}\""), "serverless.deployment_id"),
    ] {
        let complaints = ConfigFixture::with(&text).complaints();
        assert!(!complaints.contains("f00d"), "{complaints}");
        if key == "serverless.auth" {
            assert_eq!(complaints, "config.toml:2: unknown key `auth` in [serverless]");
        } else {
            assert_eq!(complaints, format!("config.toml:2: `{key}` {advice}"));
        }
    }
    let slip = ConfigFixture::with("[serverless]\ntoken_fil = \"x\"").complaints();
    assert!(slip.ends_with("did you mean `token_file`?"), "{slip}");
    let fixture = ConfigFixture::new().set("CONJURED__SERVERLESS__API_TOKEN", made_up);
    assert_eq!(
        fixture.complaints(),
        "environment variable CONJURED__SERVERLESS__API_TOKEN: there is no setting of this name\n  \
         for a token, set RUNCOMFY_API_TOKEN, or set CONJURED__SERVERLESS__TOKEN_FILE to the path \
         of a file that contains it"
    );
}
