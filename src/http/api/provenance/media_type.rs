//! The media type of an artifact, from the language or the file extension that its worker gave. The content is not
//! inspected.

use hyper::header::HeaderValue;

/// Returns the media type of a text with a language or a path.
pub(in crate::http) fn of(language: Option<&str>, path: Option<&str>) -> HeaderValue {
    let end = path.and_then(|path| path.rsplit(['/', '\\']).next()?.rsplit_once('.')).map(|(_, end)| end);
    let named = [language, end].into_iter().flatten().find_map(|name| by_name(&name.trim().to_ascii_lowercase()));
    HeaderValue::from_static(named.unwrap_or("text/plain; charset=utf-8"))
}

/// Returns the media type for the name of a language or a file extension, in lower case.
fn by_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "text" | "txt" | "log" | "plain" => "text/plain; charset=utf-8",
        "markdown" | "md" => "text/markdown; charset=utf-8",
        "restructuredtext" | "rst" => "text/x-rst; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "javascript" | "js" | "mjs" => "text/javascript; charset=utf-8",
        "typescript" | "ts" | "tsx" => "text/x-typescript; charset=utf-8",
        "json" => "application/json",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        "sql" => "application/sql",
        "python" | "py" => "text/x-python; charset=utf-8",
        "rust" | "rs" => "text/x-rust; charset=utf-8",
        "go" => "text/x-go; charset=utf-8",
        "java" => "text/x-java; charset=utf-8",
        "kotlin" | "kt" => "text/x-kotlin; charset=utf-8",
        "swift" => "text/x-swift; charset=utf-8",
        "c" | "h" => "text/x-c; charset=utf-8",
        "c++" | "cpp" | "cc" | "hpp" => "text/x-c++; charset=utf-8",
        "c#" | "csharp" | "cs" => "text/x-csharp; charset=utf-8",
        "ruby" | "rb" => "text/x-ruby; charset=utf-8",
        "php" => "text/x-php; charset=utf-8",
        "shell" | "bash" | "sh" => "text/x-shellscript; charset=utf-8",
        "diff" | "patch" => "text/x-diff; charset=utf-8",
        "dot" | "graphviz" => "text/vnd.graphviz; charset=utf-8",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_goes_before_the_path() {
        for (language, path, expected) in [
            (Some("Python"), Some("x.txt"), "text/x-python; charset=utf-8"),
            (Some("klingon"), Some("src/main.RS"), "text/x-rust; charset=utf-8"),
            (None, Some("a.d/README.md"), "text/markdown; charset=utf-8"),
            (None, Some("a.py/makefile"), "text/plain; charset=utf-8"),
            (None, Some("page.html"), "text/html; charset=utf-8"),
            (None, None, "text/plain; charset=utf-8"),
        ] {
            assert_eq!(of(language, path), expected, "{language:?} {path:?}");
        }
    }
}
