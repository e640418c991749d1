//! As much of Helm's templates as podtrace's chart uses: comments, `if`, `with`, `else`, values by their paths, and the
//! functions `default`, `quote`, `toYaml` and `nindent`. Anything else is an error, so that the chart stays this simple.

use serde_json::Value;

/// Renders a template with Helm's objects: `Values`, `Chart`.
pub(crate) fn render(template: &str, objects: &Value) -> Result<String, String> {
    let mut parts = parse(template)?.into_iter().peekable();
    let mut out = String::new();
    block(&mut parts, objects, objects, true, &mut out)?;
    match parts.next() {
        None => Ok(out),
        Some(part) => Err(format!("{part:?} closes nothing")),
    }
}

#[derive(Debug)]
enum Part {
    Text(String),
    Action(String),
}

/// Splits a template at its actions; a dash beside the braces takes the white space there away.
fn parse(template: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut rest, mut trims) = (Vec::new(), template, false);
    while let Some((text, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or_else(|| format!("an action is open: {after}"))?;
        let text = if trims { text.trim_start() } else { text };
        let (text, action) = match action.strip_prefix('-') {
            Some(action) => (text.trim_end(), action),
            None => (text, action),
        };
        let (action, dash) = action.strip_suffix('-').map_or((action, false), |action| (action, true));
        parts.extend([Part::Text(text.to_owned()), Part::Action(action.trim().to_owned())]);
        (rest, trims) = (after, dash);
    }
    parts.push(Part::Text(if trims { rest.trim_start() } else { rest }.to_owned()));
    Ok(parts)
}

type Parts = std::iter::Peekable<std::vec::IntoIter<Part>>;

/// Renders up to the `end` or `else` that closes the block, which stays.
fn block(
    parts: &mut Parts,
    objects: &Value,
    dot: &Value,
    shown: bool,
    out: &mut String,
) -> Result<(), String> {
    while let Some(part) = parts.next_if(|part| !matches!(part, Part::Action(a) if a == "end" || a == "else"))
    {
        let action = match part {
            Part::Text(text) => {
                if shown {
                    out.push_str(&text);
                }
                continue;
            }
            Part::Action(action) => action,
        };
        if action.starts_with("/*") && action.ends_with("*/") {
            continue;
        }
        let condition = action.strip_prefix("if ").or_else(|| action.strip_prefix("with "));
        let Some(condition) = condition else {
            if shown {
                out.push_str(&pipeline(&action, objects, dot)?);
            }
            continue;
        };
        let value = path(condition, objects, dot)?;
        let holds = is_true(&value);
        let inner = if action.starts_with("with ") { &value } else { dot };
        block(parts, objects, inner, shown && holds, out)?;
        let mut closing = parts.next();
        if matches!(&closing, Some(Part::Action(action)) if action == "else") {
            block(parts, objects, dot, shown && !holds, out)?;
            closing = parts.next();
        }
        if !matches!(&closing, Some(Part::Action(action)) if action == "end") {
            return Err(format!("`{action}` is not closed"));
        }
    }
    Ok(())
}

/// Whether Go's templates take a value for true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Object(value) => !value.is_empty(),
    }
}

fn path(text: &str, objects: &Value, dot: &Value) -> Result<Value, String> {
    if text == "." {
        return Ok(dot.clone());
    }
    let pointer = text.strip_prefix('.').ok_or_else(|| format!("{text} is no path"))?.replace('.', "/");
    objects.pointer(&format!("/{pointer}")).cloned().ok_or_else(|| format!("there is no value {text}"))
}

fn pipeline(action: &str, objects: &Value, dot: &Value) -> Result<String, String> {
    let mut steps = action.split(" | ");
    let first = steps.next().unwrap_or_default();
    let mut text = match first.strip_prefix("toYaml ") {
        // JSON is YAML.
        Some(of) => path(of, objects, dot)?.to_string(),
        None => plain(&path(first, objects, dot)?)?,
    };
    for step in steps {
        text = match step.split_once(' ') {
            None if step == "quote" => Value::from(text).to_string(),
            Some(("default", of)) if text.is_empty() => plain(&path(of, objects, dot)?)?,
            Some(("default", _)) => text,
            Some(("nindent", columns)) => {
                let columns: usize = columns.parse().map_err(|_| format!("{step} indents by no number"))?;
                format!("\n{}{text}", " ".repeat(columns))
            }
            _ => return Err(format!("the function {step} is not known here")),
        };
    }
    Ok(text)
}

fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(format!("{value} is no text")),
    }
}
