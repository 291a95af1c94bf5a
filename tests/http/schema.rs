//! openapi.yaml, and as much of JSON Schema as it uses.
//!
//! A keyword that is not known here fails the test: what is not checked must not look as if it were. Patterns are the
//! exception, for want of an engine; `contract.rs` checks the forms they stand for.

use serde_json::Value;

/// The file in the project's root.
pub(crate) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.yaml");

pub(crate) struct Description(Value);

/// One method of one path.
pub(crate) struct Operation<'a> {
    /// `GET /v1/orders/{order_no}`
    pub(crate) name: String,
    /// `public`, `admin` or both.
    pub(crate) listeners: Vec<&'a str>,
    /// By status.
    responses: &'a Value,
}

impl Description {
    pub(crate) fn load() -> Self {
        let text = std::fs::read_to_string(FILE).unwrap_or_else(|error| panic!("{FILE}: {error}"));
        Description(serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{FILE}: {error}")))
    }

    /// The whole document.
    pub(crate) fn root(&self) -> &Value {
        &self.0
    }

    /// `value`, or what it refers to.
    pub(crate) fn at<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(target) => self.0.pointer(target.trim_start_matches('#')).unwrap_or_else(|| panic!("no {target}")),
            None => value,
        }
    }

    /// The paths, each with its methods.
    pub(crate) fn paths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0["paths"].as_object().unwrap().iter()
    }

    /// The methods that a path takes, `HEAD` with `GET`.
    pub(crate) fn methods(item: &Value) -> Vec<&'static str> {
        let all: [(&str, &[&str]); 5] = [
            ("get", &["GET", "HEAD"]),
            ("post", &["POST"]),
            ("put", &["PUT"]),
            ("patch", &["PATCH"]),
            ("delete", &["DELETE"]),
        ];
        all.iter()
            .filter(|(name, _)| item.get(name).is_some())
            .flat_map(|(_, methods)| methods.iter().copied())
            .collect()
    }

    /// The listeners that serve a path: the names of its servers.
    pub(crate) fn listeners<'a>(&'a self, item: &'a Value) -> Vec<&'a str> {
        let servers = item.get("servers").unwrap_or(&self.0["servers"]).as_array().unwrap();
        servers.iter().map(|server| server["description"].as_str().unwrap()).collect()
    }

    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for (path, item) in self.paths() {
            for method in Self::methods(item).into_iter().filter(|&method| method != "HEAD") {
                let responses = &item[&method.to_ascii_lowercase()]["responses"];
                let name = format!("{method} {path}");
                operations.push(Operation { name, listeners: self.listeners(item), responses });
            }
        }
        operations
    }

    /// The response that an operation describes for a status.
    pub(crate) fn response<'a>(&'a self, operation: &Operation<'a>, status: u16) -> Option<&'a Value> {
        operation.responses.get(status.to_string()).map(|response| self.at(response))
    }

    /// Every response of an operation.
    pub(crate) fn responses<'a>(&'a self, operation: &Operation<'a>) -> impl Iterator<Item = (u16, &'a Value)> {
        let responses = operation.responses.as_object().unwrap();
        responses.iter().map(|(status, response)| (status.parse().unwrap(), self.at(response)))
    }

    /// The problem codes that a response names by its examples.
    pub(crate) fn codes(response: &Value) -> Vec<&str> {
        let examples = response["content"]["application/problem+json"]["examples"].as_object();
        examples.map(|examples| examples.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    /// What is wrong with `value` by `schema`.
    pub(crate) fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        for (keyword, rule) in schema.as_object().unwrap_or_else(|| panic!("no schema: {schema}")) {
            self.check(keyword, rule, schema, value, &mut faults);
        }
        faults
    }

    fn check(&self, keyword: &str, rule: &Value, schema: &Value, value: &Value, faults: &mut Vec<String>) {
        let bound = || rule.as_i64().unwrap_or_else(|| panic!("{keyword} is a number: {schema}"));
        let length = |n: usize| i64::try_from(n).unwrap();
        let mut want = |ok: bool| {
            if !ok {
                faults.push(format!("{value} against {keyword}: {rule}"));
            }
        };
        match keyword {
            "$ref" => faults.extend(self.faults(self.at(schema), value)),
            "type" => {
                let names = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
                want(names.iter().any(|name| is_type(value, name.as_str().unwrap())));
            }
            "enum" => want(rule.as_array().unwrap().contains(value)),
            "const" => want(value == rule),
            "oneOf" => {
                let fitting = rule.as_array().unwrap().iter().filter(|one| self.faults(one, value).is_empty());
                want(fitting.count() == 1);
            }
            "not" => want(!self.faults(rule, value).is_empty()),
            "allOf" => faults.extend(rule.as_array().unwrap().iter().flat_map(|one| self.faults(one, value))),
            // A bound says nothing about a value of another type: that is what `type` is for.
            "minimum" => want(value.as_i64().is_none_or(|n| n >= bound())),
            "maximum" => want(value.is_null() || value.as_i64().is_some_and(|n| n <= bound())),
            "minLength" => want(value.as_str().is_none_or(|text| length(text.chars().count()) >= bound())),
            "maxLength" => want(value.as_str().is_none_or(|text| length(text.chars().count()) <= bound())),
            "minItems" => want(value.as_array().is_none_or(|items| length(items.len()) >= bound())),
            "maxItems" => want(value.as_array().is_none_or(|items| length(items.len()) <= bound())),
            "maxProperties" => want(value.as_object().is_none_or(|members| length(members.len()) <= bound())),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    faults.extend(self.faults(rule, item));
                }
            }
            "required" => {
                for member in rule.as_array().unwrap() {
                    want(value.as_object().is_none_or(|members| members.contains_key(member.as_str().unwrap())));
                }
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(name) {
                        faults.extend(self.faults(schema, member).into_iter().map(|fault| format!("{name}: {fault}")));
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(*rule, Value::Bool(false), "the one use of additionalProperties here");
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    want(schema["properties"].get(name).is_some());
                }
            }
            "pattern" | "format" | "description" | "default" => {}
            unknown => panic!("the keyword {unknown} is not checked yet: {schema}"),
        }
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not used in openapi.yaml"),
    }
}
