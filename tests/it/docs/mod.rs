//! README and `docs/`: every link leads somewhere, every console example does what it
//! shows, and the generated pages are those of the program.

mod console;
mod examples;
mod expected;
mod generated;
mod links;
mod markdown;
mod session;

use std::path::{Path, PathBuf};

/// The directory of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README, the other documents beside it, and all pages of the book.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].iter().map(|name| root().join(name)).collect();
    pages.extend(book_pages(&root().join("docs")));
    pages.sort();
    pages
}

/// All pages below a directory.
fn book_pages(directory: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages.extend(book_pages(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages
}

/// A page's path below the root, for messages.
fn name(page: &Path) -> String {
    page.strip_prefix(root()).unwrap_or(page).display().to_string()
}
