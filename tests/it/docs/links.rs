//! Links between pages, the table of contents, and the book as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use super::{book_pages, markdown, name, pages, root};

/// Most lines of README.
const README_LINES: usize = 250;

#[test]
fn every_link_leads_to_a_page_and_a_heading() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (line, target) in markdown::links(&text) {
            if let Err(fault) = follow(&page, &target) {
                faults.push(format!("{}:{line}: {target}: {fault}", name(&page)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Looks up what a link of a page leads to. Other sites are not looked up.
fn follow(page: &Path, target: &str) -> Result<(), &'static str> {
    if target.starts_with("https://") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if path.is_empty() { page.to_owned() } else { page.parent().unwrap().join(path) };
    let file = file.canonicalize().map_err(|_| "there is no such file")?;
    let book = root().join("docs").canonicalize().unwrap();
    if page.starts_with(root().join("docs")) && !file.starts_with(&book) {
        return Err("a page of the book links to a file outside of the book");
    }
    if !anchor.is_empty() {
        let text = fs::read_to_string(&file).map_err(|_| "the file is no text")?;
        if !markdown::anchors(&text).iter().any(|each| each == anchor) {
            return Err("there is no such heading");
        }
    }
    Ok(())
}

#[test]
fn the_table_of_contents_has_every_page_once() {
    let book = root().join("docs");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> = markdown::links(&summary).into_iter().map(|(_, target)| book.join(target)).collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), unique.len(), "a page is listed twice");
    let mut there: BTreeSet<_> = book_pages(&book).into_iter().collect();
    there.remove(&book.join("SUMMARY.md"));
    assert_eq!(there, unique, "docs/SUMMARY.md lists other pages than there are");
}

#[test]
fn the_book_builds() {
    let program = root().join("target/interop/bin/mdbook");
    if !program.exists() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{} is missing", program.display());
        println!("skipped: {} is missing; .ci/run installs it", program.display());
        return;
    }
    let made = tempfile::tempdir().unwrap();
    let built = Command::new(program).arg("build").arg(root()).arg("--dest-dir").arg(made.path()).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success() && !said.contains("ERROR") && !said.contains("WARN"), "{said}");
    assert!(made.path().join("quickstart.html").exists(), "{said}");
}

/// Paths of sources in code spans: of the repository, below `src` or below `tests/it`.
#[test]
fn every_source_file_that_is_named_exists() {
    let named = Regex::new(r"`((?:\w+/)*\w+\.(?:rs|yaml|json))`").unwrap();
    let mut faults = Vec::new();
    for page in pages().into_iter().chain([root().join("src/ARCHITECTURE.md")]) {
        let text = fs::read_to_string(&page).unwrap();
        for path in named.captures_iter(&text).map(|found| found[1].to_owned()) {
            let exists = ["", "src", "tests/it"].iter().any(|base| root().join(base).join(&path).exists());
            // A name without a folder may be a file that the reader writes.
            if !exists && path.contains('/') {
                faults.push(format!("{}: {path}", name(&page)));
            }
        }
    }
    assert!(faults.is_empty(), "there are no such files: {}", faults.join("\n"));
}

#[test]
fn readme_is_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, the limit is {README_LINES}");
}
