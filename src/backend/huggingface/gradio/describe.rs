//! Reads a Space's own description: `/config` and `{prefix}/info`.
//!
//! Owns the parsing of both: the path prefix of its API, whether it supports the queue protocol,
//! and for each function that we call the parameters in their order, with their defaults and
//! bounds. It trusts no address in these answers.
//!
//! - `api_prefix` is missing in Gradio 4, where the prefix is empty.
//! - `/info` lists the parameters without hidden state; `data` of the queue protocol has entries
//!   for the state, too.

use std::collections::HashMap;

use serde_json::Value;
use url::Url;

use crate::backend::{CallError, huggingface::errors};

/// The queue protocol that we support. Every version of Gradio from 4.44 to 6.31 names it.
const PROTOCOL: &str = "sse_v3";

/// The maximum number of parameters that is accepted. The Spaces have eight.
const MAX_PARAMETERS: usize = 200;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::backend::huggingface) struct SpaceDescription {
    /// The address that was called, without a trailing slash.
    pub(in crate::backend::huggingface) base: Url,
    /// The prefix of every path of the API.
    pub(in crate::backend::huggingface) prefix: String,
    /// Whether it supports the queue protocol. Otherwise the simple protocol is used.
    pub(in crate::backend::huggingface) joins: bool,
    /// The maximum size of an upload in bytes, if it has a limit.
    pub(in crate::backend::huggingface) max_upload: Option<u64>,
    /// The requested functions, by name.
    functions: HashMap<&'static str, SpaceFunction>,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::backend::huggingface) struct SpaceFunction {
    /// Its name, without a slash.
    pub(in crate::backend::huggingface) api_name: &'static str,
    /// Its number in the queue protocol.
    pub(in crate::backend::huggingface) index: u64,
    /// Its parameters, in the order of `data`.
    pub(in crate::backend::huggingface) parameters: Vec<Parameter>,
    /// For each entry of the queue protocol's `data`: whether it is a parameter. Otherwise it is
    /// hidden state, which is null.
    pub(in crate::backend::huggingface) slots: Vec<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::backend::huggingface) struct Parameter {
    pub(in crate::backend::huggingface) name: String,
    pub(in crate::backend::huggingface) default: Option<Value>,
    /// The minimum of its slider.
    pub(in crate::backend::huggingface) minimum: Option<f64>,
    /// The maximum of its slider.
    pub(in crate::backend::huggingface) maximum: Option<f64>,
}

/// Returns the path prefix of a Space's API from its `/config`.
pub(in crate::backend::huggingface) fn prefix(
    config: &Value,
    space: &str,
) -> Result<String, CallError> {
    // Everything else here accepts any JSON; this check makes sure that it is a Gradio app.
    if config.get("dependencies").and_then(Value::as_array).is_none() {
        return Err(errors::incompatible_space(format!(
            "{space} does not describe itself as a Gradio app"
        )));
    }
    let text = match config.get("api_prefix") {
        None | Some(Value::Null) => "",
        Some(value) => value.as_str().unwrap_or("?").trim_end_matches('/'),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.');
    let fits = text.is_empty()
        || (text.starts_with('/') && text.chars().all(plain) && !text.contains(".."));
    if !fits || text.len() > 100 {
        return Err(errors::incompatible_space(format!(
            "{space} reports an invalid path prefix of its API"
        )));
    }
    Ok(text.to_owned())
}

impl SpaceDescription {
    /// Reads the functions `names` from the Space's answers.
    pub(in crate::backend::huggingface) fn read(
        base: &Url,
        config: &Value,
        info: &Value,
        names: &[&'static str],
        space: &str,
    ) -> Result<Self, CallError> {
        let functions: Result<HashMap<_, _>, CallError> = names
            .iter()
            .map(|name| Ok((*name, SpaceFunction::read(config, info, name, space)?)))
            .collect();
        Ok(Self {
            base: base.clone(),
            prefix: prefix(config, space)?,
            joins: config.get("protocol").and_then(Value::as_str) == Some(PROTOCOL),
            max_upload: config.get("max_file_size").and_then(Value::as_u64),
            functions: functions?,
        })
    }

    /// Returns the address of a path of the API.
    pub(in crate::backend::huggingface) fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}{path}", self.base.path().trim_end_matches('/'), self.prefix));
        url
    }

    /// Returns a function that [`Self::read`] was asked for.
    pub(in crate::backend::huggingface) fn function(&self, name: &str) -> Option<&SpaceFunction> {
        self.functions.get(name)
    }
}

impl SpaceFunction {
    fn read(
        config: &Value,
        info: &Value,
        api_name: &'static str,
        space: &str,
    ) -> Result<Self, CallError> {
        let absent =
            || errors::incompatible_space(format!("{space} has no function `/{api_name}`"));
        let endpoint = info
            .get("named_endpoints")
            .and_then(|all| all.get(format!("/{api_name}")).or_else(|| all.get(api_name)));
        let listed = endpoint.and_then(|found| found.get("parameters")).and_then(Value::as_array);
        let mut parameters: Vec<Parameter> =
            listed.ok_or_else(absent)?.iter().take(MAX_PARAMETERS).map(Parameter::read).collect();

        let all = config.get("dependencies").and_then(Value::as_array);
        let is_it = |dependency: &Value| {
            let name = dependency.get("api_name").and_then(Value::as_str);
            name.is_some_and(|name| name.trim_start_matches('/') == api_name)
        };
        let (place, dependency) = all
            .into_iter()
            .flatten()
            .enumerate()
            .find(|(_, found)| is_it(found))
            .ok_or_else(absent)?;
        let index = dependency.get("id").and_then(Value::as_u64).unwrap_or(place as u64);

        let inputs: Vec<Option<&Value>> = dependency
            .get("inputs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|id| component(config, id))
            .collect();
        let mut places: Vec<bool> =
            inputs.iter().map(|input| !input.is_some_and(is_hidden)).collect();
        if places.iter().filter(|is_parameter| **is_parameter).count() == parameters.len() {
            let shown = inputs.iter().filter(|input| !input.is_some_and(is_hidden));
            for (parameter, input) in parameters.iter_mut().zip(shown) {
                parameter.bound(*input);
            }
        } else {
            // The two lists do not match. The order of `/info` is the documented one.
            places = vec![true; parameters.len()];
        }
        Ok(Self { api_name, index, parameters, slots: places })
    }
}

impl Parameter {
    fn read(listed: &Value) -> Self {
        let name = listed.get("parameter_name").and_then(Value::as_str).unwrap_or_default();
        let has_default =
            listed.get("parameter_has_default").and_then(Value::as_bool) == Some(true);
        let default = listed.get("parameter_default").filter(|_| has_default);
        Self { name: name.to_owned(), default: default.cloned(), minimum: None, maximum: None }
    }

    fn bound(&mut self, component: Option<&Value>) {
        let number =
            |key: &str| component?.get("props")?.get(key)?.as_f64().filter(|n| n.is_finite());
        self.minimum = number("minimum");
        self.maximum = number("maximum");
    }
}

fn component<'a>(config: &'a Value, id: &Value) -> Option<&'a Value> {
    config.get("components")?.as_array()?.iter().find(|component| component.get("id") == Some(id))
}

/// Returns whether `/info` leaves this component out.
fn is_hidden(component: &Value) -> bool {
    let kind = component.get("type").and_then(Value::as_str);
    kind == Some("state") || component.get("skip_api").and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base() -> Url {
        Url::parse("http://127.0.0.1:1/copy").expect("a URL")
    }

    fn config() -> Value {
        json!({
            "version": "5.49.1", "api_prefix": "/gradio_api", "protocol": "sse_v3", "max_file_size": null,
            "components": [
                {"id": 1, "type": "image", "props": {}},
                {"id": 2, "type": "state", "props": {}},
                {"id": 3, "type": "slider", "props": {"minimum": 0, "maximum": 2_147_483_647_u32}},
            ],
            "dependencies": [
                {"id": 4, "api_name": false, "inputs": []},
                {"id": 9, "api_name": "infer", "inputs": [1, 2, 3]},
            ],
        })
    }

    fn info() -> Value {
        let parameter = |name: &str, default: Option<u32>| json!({"parameter_name": name, "parameter_has_default": default.is_some(), "parameter_default": default});
        json!({"named_endpoints": {"/infer": {"parameters": [parameter("control_image", None), parameter("seed", Some(0))]}}})
    }

    #[test]
    fn a_function_is_found_by_name_with_its_number_its_bounds_and_a_place_for_hidden_state() {
        let read = SpaceDescription::read(&base(), &config(), &info(), &["infer"], "FLUX")
            .expect("it fits");
        let function = read.function("infer").expect("looked for");
        assert_eq!((function.index, &function.slots[..]), (9, &[true, false, true][..]));
        assert_eq!(function.parameters[1].maximum, Some(2_147_483_647.0));
        assert_eq!(function.parameters[1].default, Some(json!(0)));
        assert_eq!(function.parameters[0].default, None);
        assert_eq!(read.at("/upload").as_str(), "http://127.0.0.1:1/copy/gradio_api/upload");
        assert!(read.joins);
    }

    #[test]
    fn without_a_prefix_it_is_version_four_and_with_a_wild_one_it_is_refused() {
        let mut config = config();
        config.as_object_mut().expect("an object").remove("api_prefix");
        assert_eq!(prefix(&config, "FLUX").expect("version 4"), "");
        for bad in
            [json!("//evil.example/.."), json!("gradio"), json!(7), json!("/a?b"), json!("/%2e")]
        {
            config["api_prefix"] = bad.clone();
            assert!(prefix(&config, "FLUX").is_err(), "{bad}");
        }
        assert!(prefix(&json!({"ok": true}), "FLUX").is_err(), "any JSON is not a Gradio app");
    }

    #[test]
    fn a_function_that_is_not_there_is_named() {
        for (config, info) in [(config(), json!({})), (json!({"dependencies": []}), info())] {
            let said = SpaceDescription::read(&base(), &config, &info, &["infer"], "FLUX")
                .expect_err("absent");
            assert!(said.to_string().contains("`/infer`"), "{said}");
        }
    }

    #[test]
    fn lists_that_do_not_fit_each_other_leave_the_documented_order() {
        let mut config = config();
        config["dependencies"][1]["inputs"] = json!([1]);
        let read = SpaceDescription::read(&base(), &config, &info(), &["infer"], "FLUX")
            .expect("still callable");
        assert_eq!(read.function("infer").expect("there").slots, [true, true]);
    }
}
