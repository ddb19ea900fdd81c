//! `GET /docs`: the description of the interface as one page for people. It
//! is made of the `OpenAPI` document, once, and needs nothing else: no script,
//! nothing from elsewhere. What can be linked to stands within what can be
//! folded, so that a browser unfolds it when it goes there.

mod schema;

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::http::headers;
use crate::http::openapi;
use crate::http::reply::{self, Reply};
use crate::http::request::Call;

const STYLE: &str = include_str!("style.css");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The page, its tag, and what a browser may do with it.
static PAGE: LazyLock<(Bytes, HeaderValue, HeaderValue)> = LazyLock::new(|| {
    let page = page(&openapi::value());
    let etag = headers::etag_of(page.as_bytes());
    (page.into(), etag, policy())
});

/// Nothing but the style in the page, known by its hash.
fn policy() -> HeaderValue {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// `GET /docs`
pub(in crate::http) fn get(call: &Call) -> Reply {
    call.no_query()?;
    let (page, etag, policy) = &*PAGE;
    if call.if_none_match().is_some_and(|known| headers::matches(known, etag)) {
        return Ok(reply::not_modified(etag.clone()));
    }
    let mut response = reply::rendered(StatusCode::OK, page.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(ETAG, etag.clone());
    Ok(response)
}

/// An operation with its path and method.
struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    said: &'a Value,
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let paths = fields(&document["paths"]);
    let all = paths.flat_map(|(path, item)| {
        let methods = fields(item).filter(|(_, said)| said["operationId"].is_string());
        methods.map(move |(method, said)| Operation { path, method, said })
    });
    all.collect()
}

fn page(document: &Value) -> String {
    let title = escaped(string(&document["info"]["title"]));
    let version = escaped(string(&document["info"]["version"]));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n<p class=\"quiet\">Version {version}, <a href=\"openapi.json\">openapi.json</a>, of the \
         messages on a broker <a href=\"asyncapi.json\">asyncapi.json</a></p>\n"
    );
    paragraphs(&mut out, string(&document["info"]["description"]));
    let all = operations(document);
    let tags: Vec<&Value> = list(&document["tags"]).collect();
    out.push_str("<nav><ul>\n");
    for tag in &tags {
        let name = string(&tag["name"]);
        let _ = writeln!(out, "<li><a href=\"#{}\">{}</a></li>", anchor(name), escaped(name));
    }
    out.push_str("<li><a href=\"#schemas\">Schemas</a></li>\n</ul></nav>\n");
    for tag in tags {
        let name = string(&tag["name"]);
        let _ = writeln!(out, "<h2 id=\"{}\">{}</h2>", anchor(name), escaped(name));
        paragraphs(&mut out, string(&tag["description"]));
        for operation in all.iter().filter(|operation| operation.said["tags"][0] == name) {
            write_operation(&mut out, document, operation);
        }
    }
    out.push_str("<h2 id=\"schemas\">Schemas</h2>\n");
    for (name, schema) in fields(&document["components"]["schemas"]) {
        schema::write(&mut out, name, schema);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn write_operation(out: &mut String, document: &Value, operation: &Operation<'_>) {
    let Operation { path, method, said } = operation;
    let id = escaped(string(&said["operationId"]));
    let (word, shown) = (method.to_uppercase(), escaped(path));
    let summary = inline(string(&said["summary"]));
    let _ = writeln!(
        out,
        "<details><summary><b class=\"{method}\">{word}</b> <code>{shown}</code> {summary}</summary>\n<div id=\"{id}\">"
    );
    paragraphs(out, string(&said["description"]));
    let parameters: Vec<&Value> = list(&said["parameters"]).map(|each| resolved(document, each)).collect();
    if !parameters.is_empty() {
        out.push_str("<h4>Parameters</h4>\n<dl>\n");
        for parameter in parameters {
            let place = escaped(string(&parameter["in"]));
            let needed = if parameter["required"] == true { ", required" } else { "" };
            let kind = schema::kind(&parameter["schema"]);
            let name = escaped(string(&parameter["name"]));
            let _ = writeln!(out, "<dt><code>{name}</code> <span class=\"quiet\">{place}{needed}</span> {kind}</dt>");
            let _ = writeln!(out, "<dd>{}</dd>", inline(string(&parameter["description"])));
        }
        out.push_str("</dl>\n");
    }
    write_body(out, operation);
    write_answers(out, &said["responses"]);
    out.push_str("</div></details>\n");
}

fn write_body(out: &mut String, operation: &Operation<'_>) {
    let body = &operation.said["requestBody"];
    if body.is_object() {
        let needed = if body["required"] == true { "" } else { " (may be left out)" };
        let _ = writeln!(out, "<h4>Body{needed}</h4>");
        write_contents(out, &body["content"]);
    }
    let content = fields(&body["content"]).next();
    let kind = content.map_or("", |(kind, _)| kind);
    let examples: Vec<&Value> = content.map_or(Vec::new(), |(_, content)| {
        fields(&content["examples"]).map(|(_, example)| &example["value"]).collect()
    });
    out.push_str("<h4>With curl</h4>\n");
    if examples.is_empty() {
        let _ = writeln!(out, "<pre>{}</pre>", escaped(&curl(operation, None)));
    }
    for example in examples {
        let _ = writeln!(out, "<pre>{}</pre>", escaped(&curl(operation, Some((kind, example)))));
    }
}

/// A call of an operation, for a shell.
fn curl(operation: &Operation<'_>, body: Option<(&str, &Value)>) -> String {
    let mut line = "curl".to_owned();
    if operation.method != "get" {
        let _ = write!(line, " -X {}", operation.method.to_uppercase());
    }
    let needed = list(&operation.said["parameters"]).filter(|each| each["in"] == "query" && each["required"] == true);
    let names = needed.map(|each| string(&each["name"])).map(|name| format!("{name}={}", name.to_uppercase()));
    let query = names.collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    let path = operation.path.replace("{id}", "ID");
    let _ = write!(line, " 'http://127.0.0.1:8000/api/v1{path}{mark}{query}'");
    if let Some((kind, value)) = body {
        // A quote in a shell's quotes ends them, stands alone, and begins them again.
        let value = value.to_string().replace('\'', "'\\''");
        let _ = write!(line, " \\\n  -H 'Content-Type: {kind}' \\\n  -d '{value}'");
    }
    line
}

fn write_answers(out: &mut String, answers: &Value) {
    out.push_str("<h4>Answers</h4>\n<dl>\n");
    for (status, answer) in fields(answers) {
        let said = inline(string(&answer["description"]));
        let _ = writeln!(out, "<dt><b>{}</b> {said}</dt>", escaped(status));
        let headers: Vec<String> = fields(&answer["headers"])
            .filter(|(name, _)| *name != "X-Request-Id")
            .map(|(name, _)| format!("<code>{}</code>", escaped(name)))
            .collect();
        if answer["content"].is_object() || !headers.is_empty() {
            out.push_str("<dd>");
            write_contents(out, &answer["content"]);
            if !headers.is_empty() {
                let _ = write!(out, "<p class=\"quiet\">Headers: {}</p>", headers.join(", "));
            }
            out.push_str("</dd>\n");
        }
    }
    out.push_str("</dl>\n");
}

/// Problems are all of one kind, which is told once.
fn write_contents(out: &mut String, contents: &Value) {
    for (kind, content) in fields(contents).filter(|(kind, _)| *kind != "application/problem+json") {
        let schema = schema::kind(&content["schema"]);
        let _ = writeln!(out, "<p><code>{}</code> {schema}</p>", escaped(kind));
    }
}

/// What a reference stands for.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn anchor(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A text in which what stands between backticks is code.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| match at % 2 {
        0 => escaped(part),
        _ => format!("<code>{}</code>", escaped(part)),
    });
    parts.collect()
}

fn paragraphs(out: &mut String, text: &str) {
    for paragraph in text.split("\n\n").filter(|text| !text.is_empty()) {
        let _ = writeln!(out, "<p>{}</p>", inline(paragraph));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_can_do_nothing() {
        assert_eq!(inline("a `<b>` & \"c\""), "a <code>&lt;b&gt;</code> &amp; &quot;c&quot;");
        let said = json!({"operationId": "x\"y", "summary": "<i>", "responses": {"200": {"description": "<s>"}}});
        let mut out = String::new();
        write_operation(&mut out, &json!({}), &Operation { path: "/<p>", method: "get", said: &said });
        assert!(!["<i>", "<s>", "<p>\"", "x\"y"].iter().any(|raw| out.contains(raw)), "{out}");
    }

    #[test]
    fn quotes_survive_the_shell() {
        let operation = Operation { path: "/tasks", method: "post", said: &Value::Null };
        let line = curl(&operation, Some(("application/json", &json!({"a": "it's"}))));
        assert!(line.ends_with(r#"-d '{"a":"it'\''s"}'"#), "{line}");
    }
}
