//! Chooses the random seeds of a job.
//!
//! Owns the three ways to choose a seed and their ranges. Randomness is an argument: this file
//! generates none.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::job::Inputs;

/// Image seeds are below this limit: above 2^53 a JSON number may be rounded when it is parsed
/// as a float.
pub const IMAGE_SEED_LIMIT: u64 = 1 << 53;

/// Mesh seeds are below this limit: PartPacker's sampler accepts 0 to 2147483647.
pub const MESH_SEED_LIMIT: u64 = 1 << 31;

/// `generation.seed`: how the seeds of a job are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SeedChoice {
    /// From the fingerprints of the inputs: the same prompt and render always give the same seeds.
    #[default]
    Derived,
    /// New for every job.
    Random,
    /// Always this one.
    Fixed(u64),
}

/// The error for a `generation.seed` that is none of the three.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a seed is \"derived\", \"random\" or a whole number from 0 to 9007199254740991, not `{0}`"
)]
pub struct BadSeed(pub String);

/// The two seeds of a job, each within its node's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Seeds {
    /// The image's seed, below [`IMAGE_SEED_LIMIT`].
    pub image: u64,
    /// The mesh's seed, below [`MESH_SEED_LIMIT`].
    pub mesh: u64,
}

/// Chooses the seeds of a job. `random` is used only for [`SeedChoice::Random`]. A fixed seed is
/// used unchanged for the image and modulo its range for the mesh, so that 1337 is 1337 for both.
pub fn seeds(choice: SeedChoice, inputs: &Inputs, random: u64) -> Seeds {
    match choice {
        SeedChoice::Derived => {
            let (prompt, render) = (inputs.prompt.as_bytes(), inputs.render.as_bytes());
            random_seeds("conjured 1 seeds of a job from its inputs", &[prompt, render])
        }
        SeedChoice::Random => {
            random_seeds("conjured 1 seeds of a job from a random number", &[&random.to_le_bytes()])
        }
        SeedChoice::Fixed(seed) => {
            Seeds { image: seed % IMAGE_SEED_LIMIT, mesh: seed % MESH_SEED_LIMIT }
        }
    }
}

/// Derives both seeds from one digest, so that they are independent of each other. The context
/// separates these digests from fingerprints and from each other; a different context changes every
/// derived seed.
fn random_seeds(context: &str, material: &[&[u8]]) -> Seeds {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in material {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let number = |at: usize| {
        digest.as_bytes()[at..at + 8]
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    // Both limits are powers of two, so the remainder is distributed as evenly as the digest.
    Seeds { image: number(0) % IMAGE_SEED_LIMIT, mesh: number(8) % MESH_SEED_LIMIT }
}

impl SeedChoice {
    /// Accepts a number as a fixed seed.
    fn fixed(number: impl TryInto<u64> + fmt::Display + Copy) -> Result<Self, BadSeed> {
        let seed = number.try_into().ok().filter(|seed| *seed < IMAGE_SEED_LIMIT);
        seed.map(Self::Fixed).ok_or_else(|| BadSeed(number.to_string()))
    }
}

impl fmt::Display for SeedChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Derived => f.write_str("derived"),
            Self::Random => f.write_str("random"),
            Self::Fixed(seed) => seed.fmt(f),
        }
    }
}

impl FromStr for SeedChoice {
    type Err = BadSeed;

    fn from_str(text: &str) -> Result<Self, BadSeed> {
        let bad = || BadSeed(text.chars().take(40).collect());
        match text.trim() {
            "derived" => Ok(Self::Derived),
            "random" => Ok(Self::Random),
            number => number.parse::<u64>().map_err(|_| bad()).and_then(Self::fixed),
        }
    }
}

impl Serialize for SeedChoice {
    /// Writes a fixed seed as a number, otherwise the word.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(seed) => serializer.serialize_u64(*seed),
            Self::Derived | Self::Random => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for SeedChoice {
    /// Accepts a word, a number, or a number in a text: environment variables are always texts.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SeedChoice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"derived\", \"random\" or a whole number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SeedChoice, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SeedChoice, E> {
                SeedChoice::fixed(number).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SeedChoice, E> {
                SeedChoice::fixed(number).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fingerprint::Fingerprint;

    fn inputs(prompt: &[u8], render: &[u8]) -> Inputs {
        Inputs { prompt: Fingerprint::of(prompt), render: Fingerprint::of(render) }
    }

    #[test]
    fn the_same_inputs_give_the_same_seeds_for_ever() {
        let derived = seeds(SeedChoice::Derived, &inputs(b"a chair", b"pixels"), 7);
        assert_eq!(derived, seeds(SeedChoice::Derived, &inputs(b"a chair", b"pixels"), 8));
        // Fixed numbers: an accidental change of the derivation would invalidate every
        // cached result.
        assert_eq!(derived, Seeds { image: 8_864_280_986_922_132, mesh: 731_159_928 });
    }

    #[test]
    fn another_prompt_another_render_or_the_two_exchanged_give_other_seeds() {
        let of = |prompt, render| seeds(SeedChoice::Derived, &inputs(prompt, render), 0);
        let base = of(b"a", b"b");
        for other in [of(b"x", b"b"), of(b"a", b"x"), of(b"b", b"a")] {
            assert_ne!(base.image, other.image);
            assert_ne!(base.mesh, other.mesh);
        }
    }

    #[test]
    fn a_fixed_seed_is_itself_where_it_fits() {
        let fixed = |seed| seeds(SeedChoice::Fixed(seed), &inputs(b"", b""), 0);
        assert_eq!(fixed(1337), Seeds { image: 1337, mesh: 1337 });
        assert_eq!(fixed(2_147_483_648), Seeds { image: 2_147_483_648, mesh: 0 });
    }

    #[test]
    fn words_and_numbers_are_understood_in_text_and_in_toml_values() {
        for (text, choice) in [
            ("derived", SeedChoice::Derived),
            (" random ", SeedChoice::Random),
            ("1337", SeedChoice::Fixed(1337)),
            ("9007199254740991", SeedChoice::Fixed(IMAGE_SEED_LIMIT - 1)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            let json = serde_json::to_value(choice).expect("serialises");
            assert_eq!(serde_json::from_value::<SeedChoice>(json).ok(), Some(choice));
            assert_eq!(serde_json::from_value::<SeedChoice>(text.into()).ok(), Some(choice));
        }
        for bad in ["", "-1", "9007199254740992", "1.5", "dervied", "0x10"] {
            assert_eq!(bad.parse::<SeedChoice>(), Err(BadSeed(bad.into())));
        }
        for bad in [serde_json::json!(-1), serde_json::json!(1.5), serde_json::json!(u64::MAX)] {
            assert!(serde_json::from_value::<SeedChoice>(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn every_seed_stays_within_its_range(random: u64, fixed: u64, prompt: [u8; 32], render: [u8; 32]) {
            let inputs = Inputs { prompt: Fingerprint::from_bytes(prompt), render: Fingerprint::from_bytes(render) };
            for choice in [SeedChoice::Derived, SeedChoice::Random, SeedChoice::Fixed(fixed)] {
                let seeds = seeds(choice, &inputs, random);
                prop_assert!(seeds.image < 9_007_199_254_740_992 && seeds.mesh <= 2_147_483_647);
            }
        }

        #[test]
        fn another_random_number_gives_other_seeds(one: u64, other: u64) {
            prop_assume!(one != other);
            let of = |random| seeds(SeedChoice::Random, &inputs(b"", b""), random);
            prop_assert_ne!(of(one), of(other));
        }
    }
}
