//! Fills in the variables of a description: `$node.ip` and the like in any of its strings.

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Variables with their values.
#[derive(Clone, Debug, Default)]
pub(in crate::lab) struct Variables(Vec<(String, String)>);

impl Variables {
    /// Adds some, whose names get this prefix: `$` or `$node.`.
    #[must_use]
    pub(in crate::lab) fn with<'a>(
        mut self,
        prefix: &str,
        values: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        self.0.extend(values.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)));
        // The longest first: `$node.ip` must not be found in `$node.ip6`.
        self.0.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        self
    }

    /// The text with every variable replaced.
    pub(in crate::lab) fn fill(&self, text: &str) -> Result<String> {
        let filled =
            self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name.as_str(), value));
        match filled.split_once('$') {
            Some((_, rest)) => bail!("there is no variable ${}", rest.lines().next().unwrap_or_default()),
            None => Ok(filled),
        }
    }

    /// A part of a description with every variable replaced.
    pub(in crate::lab) fn read<T: DeserializeOwned>(&self, part: &Value) -> Result<T> {
        serde_json::from_value(self.value(part)?).with_context(|| format!("reading {part}"))
    }

    fn value(&self, part: &Value) -> Result<Value> {
        Ok(match part {
            Value::String(text) => Value::String(self.fill(text)?),
            Value::Array(parts) => {
                Value::Array(parts.iter().map(|part| self.value(part)).collect::<Result<_>>()?)
            }
            Value::Object(parts) => {
                let filled = parts.iter().map(|(name, part)| Ok((self.fill(name)?, self.value(part)?)));
                Value::Object(filled.collect::<Result<_>>()?)
            }
            other => other.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_name_that_fits_is_replaced_everywhere() {
        let variables = Variables::default()
            .with("$node.", [("ip", "192.168.56.11".to_owned()), ("ip6", "fd00::11".to_owned())]);
        let part = json!({"$node.ip": ["$node.ip/24", {"over": "$node.ip6"}], "mtu": 1450});
        let filled: Value = variables.read(&part).unwrap();
        assert_eq!(filled, json!({"192.168.56.11": ["192.168.56.11/24", {"over": "fd00::11"}], "mtu": 1450}));
        assert_eq!(variables.fill("$pod.ip x").unwrap_err().to_string(), "there is no variable $pod.ip x");
    }
}
