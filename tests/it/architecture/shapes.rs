//! Recognizes what looks like a secret, a real id, or a path on a real machine.
//!
//! Owns heuristics. What is obviously invented passes: digits in order, one repeated piece, few
//! different letters.

/// Returns what is suspicious about a line of a file.
pub(super) fn suspicious(line: &str) -> Option<&'static str> {
    if line.split(|c: char| !(c.is_ascii_hexdigit() || c == '-')).any(is_uuid) {
        return Some("it looks like somebody's id (a UUID)");
    }
    let words = || line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
    if words().any(has_prefix_of_a_token) || words().any(is_random) {
        return Some("it looks like a token or a key");
    }
    // Joined here, because this file is checked too.
    let machines =
        [["/ho", "me/"], ["/wo", "rk/"], ["/ro", "ot/"], ["/Use", "rs/"], ["/tmp/w", "t/"]];
    let machines = machines.map(|parts| parts.concat());
    // The fictional users of tests and examples.
    let nobodys = ["ada", "USER", "you"];
    for folder in &machines {
        for (at, _) in line.match_indices(folder.as_str()) {
            let begins =
                !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}".contains(c));
            let who = line[at + folder.len()..].split(|c: char| !c.is_alphanumeric()).next();
            if begins && who.is_none_or(|who| !nobodys.contains(&who)) {
                return Some("it is a path of somebody's machine");
            }
        }
    }
    None
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && !is_made_up(&word.replace('-', ""))
}

fn has_prefix_of_a_token(word: &str) -> bool {
    let prefixes = ["hf_", "sk-", "ghp_", "gho_", "github_pat_", "xoxb-", "AKIA", "eyJ"];
    prefixes.iter().any(|prefix| {
        word.strip_prefix(prefix).is_some_and(|tail| {
            tail.len() >= 16
                && tail.contains(|c: char| c.is_ascii_digit())
                && !tail.contains(['_', '-'])
                && !is_made_up(tail)
        })
    })
}

/// Returns whether a long run alternates between letters and digits as no word and no number does.
fn is_random(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word.len() >= 28
        && !word.contains(['_', '-'])
        && digits >= 4
        && digits < word.len()
        && !is_made_up(word)
}

/// Returns whether a text was invented by a person: few different characters, or one
/// piece repeated.
fn is_made_up(word: &str) -> bool {
    let mut different: Vec<char> = word.chars().collect();
    different.sort_unstable();
    different.dedup();
    let repeats = word.len() >= 16 && word.get(..8).is_some_and(|head| word[8..].contains(head));
    let counts = ["0123456789", "1234567890", "abcdefgh"].iter().any(|run| word.contains(run));
    different.len() <= 6 || repeats || counts
}

#[test]
fn secrets_and_ids_are_noticed_and_words_are_not() {
    // Joined here, because this file is checked too.
    let id = ["7c9e6679", "7425", "40de", "944b", "e07fc1f90ae7"].join("-");
    let token = ["hf_", "aB3xK9mQ7tR2", "vY8pL4nW6"].concat();
    let key = ["9f86d081884c7d65", "9a2feaa0c55ad015"].concat();
    for shape in [&id, &token, &key] {
        assert!(suspicious(&format!("let x = \"{shape}\";")).is_some(), "{shape}");
    }
    let path = ["/ho", "me/grace/CONJURE"].concat();
    assert!(suspicious(&format!("root = \"{path}\"")).is_some());
    for plain in [
        "00000000-0000-0000-0000-000000000000",
        "let a_very_long_name_of_a_test_that_says_what_it_proves_in_2026 = 1;",
        "99999999999999999999999999999999",
        "01K7Z0000000000000000000AB",
        "workflows/conjure_flux_mesh.json",
        "src/simulator/network/home/page.rs",
    ] {
        assert_eq!(suspicious(plain), None, "{plain}");
    }
}
