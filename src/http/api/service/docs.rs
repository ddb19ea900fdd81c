//! `GET /docs` and `GET /docs/{file}`: the API reference.
//!
//! The reference is Swagger UI over `openapi.json`. Its files come from the crate
//! `utoipa-swagger-ui` and are part of the binary, so that a browser needs no other host.
//! The page around them is written here, because the page of the crate works only below a
//! path that ends with a slash.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use utoipa_swagger_ui::Config;

use crate::http::api::app::Call;
use crate::http::server::body::Body;
use crate::http::server::headers;
use crate::http::server::problem::Problem;
use crate::http::server::reply::{self, Reply};

/// Links are relative, so that the page works below `/` and below the base path.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DATS API reference</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/index.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/swagger-ui-standalone-preset.js"></script>
<script src="docs/swagger-initializer.js"></script>
</body>
</html>
"#;

/// The files that the page loads. The crate has others, which are not served.
const FILES: [&str; 6] = [
    "swagger-ui.css",
    "index.css",
    "favicon-32x32.png",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-initializer.js",
];

/// Scripts run from this server's files only, and requests go to this server only. Swagger UI
/// sets styles on its elements and has its icons as `data:` URLs.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// The page or a file that it loads.
struct File {
    name: &'static str,
    bytes: Bytes,
    media_type: HeaderValue,
    is_gzip: bool,
    etag: HeaderValue,
}

static INDEX: LazyLock<File> = LazyLock::new(|| File {
    name: "",
    bytes: Bytes::from_static(PAGE.as_bytes()),
    media_type: HeaderValue::from_static("text/html; charset=utf-8"),
    is_gzip: false,
    etag: headers::etag_of(PAGE.as_bytes()),
});

/// The files of [`FILES`], prepared at the first request for one of them.
static ASSETS: LazyLock<Vec<File>> = LazyLock::new(|| {
    let config = Config::new(["openapi.json"])
        .use_base_layout()
        .display_request_duration(true)
        .doc_expansion("none")
        .filter(true)
        // The default is a validator on another host.
        .validator_url("none");
    let config = Arc::new(config);
    FILES.into_iter().filter_map(|name| asset(name, &config)).collect()
});

fn asset(name: &'static str, config: &Arc<Config<'static>>) -> Option<File> {
    let file = utoipa_swagger_ui::serve(name, Arc::clone(config)).ok()??;
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Some(File {
        name,
        media_type: HeaderValue::from_str(&file.content_type).ok()?,
        is_gzip: file.gzpipped,
        etag: headers::etag_of(&bytes),
        bytes,
    })
}

/// `GET /docs`
pub(in crate::http) fn page(call: &Call) -> Reply {
    call.require_no_query()?;
    let mut response = send(call, &INDEX);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}

/// `GET /docs/{file}`
pub(in crate::http) fn file(call: &Call) -> Reply {
    call.require_no_query()?;
    let name = call.id();
    let file = ASSETS.iter().find(|file| file.name == name).ok_or_else(Problem::no_such_path)?;
    Ok(send(call, file))
}

/// Files that are stored compressed are sent so whatever the request accepts: every browser
/// takes gzip.
fn send(call: &Call, file: &File) -> Response<Body> {
    reply::versioned(file.etag.clone(), call.if_none_match(), || {
        let mut response = reply::rendered(StatusCode::OK, file.bytes.clone());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, file.media_type.clone());
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if file.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_in_the_binary() {
        let names: Vec<&str> = ASSETS.iter().map(|file| file.name).collect();
        assert_eq!(names, FILES);
        for name in FILES {
            assert!(PAGE.contains(&format!("\"docs/{name}\"")), "{name}");
        }
    }
}
