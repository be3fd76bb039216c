//! The values of a call, in the order that the Space requires.
//!
//! Owns the names of the parameters that our calls need, the values for the others, and the check
//! that every number is within its slider: old versions of Gradio silently accept a value outside
//! it. Too few values are an error of the Space and too many are silently cut, so the list is built
//! from the Space's own parameters, one value for each.

use serde_json::{Value, json};

use super::{errors, gradio::describe::SpaceFunction};
use crate::backend::{CallError, work::SpacesPayload};

/// A value for a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Argument {
    name: &'static str,
    value: Value,
    usage: ParameterUse,
}

/// How an argument is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParameterUse {
    /// A function without this parameter cannot be used.
    Required,
    /// Used if the parameter exists.
    IfPresent,
    /// Used if the parameter exists and has no default.
    IfNoDefault,
}

const fn argument(name: &'static str, value: Value, use_: ParameterUse) -> Argument {
    Argument { name, value, usage: use_ }
}

/// Returns an uploaded file as a function argument. It is never null: a function that allows null
/// would run without the picture and succeed.
pub(super) fn file(path: &str) -> Value {
    json!({"path": path, "meta": {"_type": "gradio.FileData"}})
}

/// Returns the arguments that make the picture from the prompt and the render. Unless
/// `randomize_seed` is false, the seed is ignored.
pub(super) fn flux(work: &SpacesPayload, image: &str) -> Vec<Argument> {
    vec![
        argument("control_image", file(image), ParameterUse::Required),
        argument("prompt", Value::from(work.prompt.as_str()), ParameterUse::Required),
        argument("seed", Value::from(work.seed), ParameterUse::Required),
        argument("randomize_seed", Value::from(false), ParameterUse::IfPresent),
        argument("num_inference_steps", Value::from(work.steps_flux), ParameterUse::Required),
        // The published defaults of the Space.
        argument("width", Value::from(1024), ParameterUse::IfNoDefault),
        argument("height", Value::from(1024), ParameterUse::IfNoDefault),
        argument("guidance_scale", Value::from(10), ParameterUse::IfNoDefault),
    ]
}

/// Returns the arguments that remove the picture's background.
pub(super) fn segment(image: &str) -> Vec<Argument> {
    vec![argument("image_path", file(image), ParameterUse::Required)]
}

/// Returns the arguments that make the mesh from the picture.
pub(super) fn mesh(work: &SpacesPayload, image: &str) -> Vec<Argument> {
    vec![
        argument("input_image", file(image), ParameterUse::Required),
        argument("num_steps", Value::from(work.steps_partpacker), ParameterUse::Required),
        argument("seed", Value::from(work.mesh_seed), ParameterUse::Required),
        argument("cfg_scale", Value::from(7), ParameterUse::IfNoDefault),
        argument("grid_res", Value::from(384), ParameterUse::IfNoDefault),
        argument("simplify_mesh", Value::from(false), ParameterUse::IfNoDefault),
        argument("target_num_faces", Value::from(100_000), ParameterUse::IfNoDefault),
    ]
}

/// Returns `data` for the simple protocol, or an error that names what does not fit.
pub(super) fn build_data(
    function: &SpaceFunction,
    arguments: &[Argument],
    space: &str,
) -> Result<Vec<Value>, CallError> {
    let api_name = function.api_name;
    let has = |name: &str| function.parameters.iter().any(|parameter| parameter.name == name);
    if let Some(missing) =
        arguments.iter().find(|one| one.usage == ParameterUse::Required && !has(one.name))
    {
        let names = function.parameters.iter().take(20).map(|parameter| parameter.name.as_str());
        let names: String = names
            .collect::<Vec<_>>()
            .join(", ")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect();
        let missing = missing.name;
        return Err(errors::incompatible_space(format!(
            "{space} has no parameter `{missing}` in `/{api_name}` (it has: {names})"
        )));
    }
    let mut data = Vec::with_capacity(function.parameters.len());
    for parameter in &function.parameters {
        let ours = arguments.iter().find(|one| one.name == parameter.name);
        let value = match (ours, &parameter.default) {
            (Some(one), None) => one.value.clone(),
            (Some(one), Some(_)) if one.usage != ParameterUse::IfNoDefault => one.value.clone(),
            (_, Some(default)) => default.clone(),
            (None, None) => {
                let name: String =
                    parameter.name.chars().filter(|c| !c.is_control()).take(60).collect();
                return Err(errors::incompatible_space(format!(
                    "{space} requires the unknown parameter `{name}` in `/{api_name}`"
                )));
            }
        };
        let bounds = (parameter.minimum, parameter.maximum);
        let value = match (ours.map(|one| one.name), value.as_u64()) {
            (Some("seed"), Some(seed)) => Value::from(fold_seed(seed, bounds)),
            _ => value,
        };
        if let (Some(name), Some(number)) = (ours.map(|one| one.name), value.as_f64()) {
            let (least, most) = (bounds.0.unwrap_or(f64::MIN), bounds.1.unwrap_or(f64::MAX));
            if number < least || number > most {
                return Err(errors::invalid_value(format!(
                    "{space} accepts `{name}` in `/{api_name}` from {least} to {most}, but it is {number}"
                )));
            }
        }
        data.push(value);
    }
    Ok(data)
}

/// Returns `data` for the queue protocol, which also has entries for hidden state.
pub(super) fn data_with_state(function: &SpaceFunction, data: Vec<Value>) -> Vec<Value> {
    let mut data = data.into_iter();
    let place = |is_parameter: &bool| {
        if *is_parameter { data.next().unwrap_or_default() } else { Value::Null }
    };
    function.slots.iter().map(place).collect()
}

/// Maps the seed into the slider's range. Any seed is as good as another, as long as equal seeds
/// stay equal.
fn fold_seed(seed: u64, bounds: (Option<f64>, Option<f64>)) -> u64 {
    // Bounds of sliders are small. A bound that is not a whole number, or is beyond 2^53,
    // is ignored.
    let whole = |bound: f64| -> Option<u64> {
        let fits = (0.0..=9_007_199_254_740_992.0).contains(&bound);
        if fits { format!("{bound:.0}").parse().ok() } else { None }
    };
    let least = bounds.0.and_then(whole).unwrap_or(0);
    let Some(most) = bounds.1.and_then(whole).filter(|most| *most >= least) else { return seed };
    if (least..=most).contains(&seed) { seed } else { least + seed % (most - least + 1) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::backend::{FaultKind, huggingface::gradio::describe::Parameter, work::Upload};

    fn work() -> SpacesPayload {
        let picture = Upload {
            name: "r.png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: Bytes::from_static(b"x"),
        };
        SpacesPayload {
            prompt: "a fox".to_owned(),
            picture,
            seed: 77,
            mesh_seed: 5,
            steps_flux: 20,
            steps_partpacker: 50,
        }
    }

    fn function(names: &[(&str, Option<Value>, Option<f64>)]) -> SpaceFunction {
        let parameters: Vec<Parameter> = names
            .iter()
            .map(|(name, default, maximum)| Parameter {
                name: (*name).to_owned(),
                default: default.clone(),
                minimum: Some(0.0).filter(|_| maximum.is_some()),
                maximum: *maximum,
            })
            .collect();
        let places = vec![true; parameters.len()];
        SpaceFunction { api_name: "infer", index: 0, parameters, slots: places }
    }

    fn usual() -> SpaceFunction {
        function(&[
            ("prompt", None, None),
            ("num_inference_steps", Some(json!(28)), Some(50.0)),
            ("control_image", None, None),
            ("guidance_scale", Some(json!(12.5)), None),
            ("width", None, None),
            ("randomize_seed", Some(json!(true)), None),
            ("seed", Some(json!(0)), Some(100.0)),
            ("new_switch", Some(json!("auto")), None),
        ])
    }

    #[test]
    fn values_go_under_their_names_in_the_spaces_order_and_its_defaults_fill_the_rest() {
        let data = build_data(&usual(), &flux(&work(), "/t/r.png"), "FLUX").expect("it fits");
        let picture = json!({"path": "/t/r.png", "meta": {"_type": "gradio.FileData"}});
        assert_eq!(
            data,
            [
                json!("a fox"),
                json!(20),
                picture,
                json!(12.5),
                json!(1024),
                json!(false),
                json!(77),
                json!("auto")
            ]
        );
    }

    #[test]
    fn a_missing_required_parameter_and_an_unknown_one_are_refused_by_name() {
        let mut without = usual();
        without.parameters.retain(|parameter| parameter.name != "seed");
        let said =
            build_data(&without, &flux(&work(), "x"), "FLUX").expect_err("no seed").to_string();
        assert!(said.contains("`seed`") && said.contains("control_image"), "{said}");
        let mut more = usual();
        more.parameters.push(Parameter { name: "licence".to_owned(), ..Parameter::default() });
        let said = build_data(&more, &flux(&work(), "x"), "FLUX").expect_err("unknown").to_string();
        assert!(said.contains("`licence`"), "{said}");
    }

    #[test]
    fn a_seed_is_folded_into_the_slider_and_steps_beyond_it_are_refused_with_its_bounds() {
        let seed = |seed| {
            let data = build_data(&usual(), &flux(&SpacesPayload { seed, ..work() }, "x"), "FLUX");
            data.expect("it fits")[6].as_u64()
        };
        assert_eq!((seed(100), seed(101), seed(1_000)), (Some(100), Some(0), Some(91)));
        let many = flux(&SpacesPayload { steps_flux: 64, ..work() }, "x");
        let Err(CallError::Fault(fault)) = build_data(&usual(), &many, "FLUX") else {
            panic!("beyond it")
        };
        assert_eq!(fault.kind, FaultKind::Workflow);
        assert!(
            fault.message.contains("from 0 to 50") && fault.message.contains("64"),
            "{}",
            fault.message
        );
    }

    #[test]
    fn hidden_state_has_a_place_of_its_own() {
        let mut function = usual();
        function.slots = vec![true, false, true];
        assert_eq!(
            data_with_state(&function, vec![json!(1), json!(2)]),
            [json!(1), Value::Null, json!(2)]
        );
    }
}
