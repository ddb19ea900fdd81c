//! Reads as much of Markdown as the checks need: fenced blocks, headings and links.

/// A fenced block.
pub(super) struct Block {
    /// Line of the opening fence, from 1.
    pub(super) line: usize,
    /// Language of the block.
    pub(super) language: String,
    /// Arguments of the comments `<!-- test: ... -->` right above the block.
    pub(super) directives: Vec<String>,
    /// Text between the fences.
    pub(super) text: String,
}

/// A line of prose, with code spans blanked out.
struct Prose<'a> {
    number: usize,
    text: &'a str,
}

/// Returns the fenced blocks of a page in order.
pub(super) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut directives = Vec::new();
    let mut is_open = false;
    for (index, line) in page.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            is_open = !is_open;
            if is_open {
                let (line, language) = (index + 1, info.trim().to_owned());
                blocks.push(Block { line, language, directives: std::mem::take(&mut directives), text: String::new() });
            }
        } else if is_open {
            let block = blocks.last_mut().unwrap();
            block.text.push_str(line);
            block.text.push('\n');
        } else if let Some(directive) = line.trim().strip_prefix("<!-- test: ") {
            directives.push(directive.strip_suffix(" -->").expect("a comment on one line").to_owned());
        } else if !line.trim().is_empty() {
            assert!(directives.is_empty(), "line {}: a test comment stands above no block", index + 1);
        }
    }
    assert!(!is_open, "a fenced block is not closed");
    blocks
}

fn prose(page: &str) -> Vec<Prose<'_>> {
    let mut is_open = false;
    let mut lines = Vec::new();
    for (index, text) in page.lines().enumerate() {
        let is_fence = text.trim_start().starts_with("```");
        is_open ^= is_fence;
        if !is_open && !is_fence {
            lines.push(Prose { number: index + 1, text });
        }
    }
    lines
}

/// Returns the anchors of a page's headings, as GitHub and mdBook derive them.
pub(super) fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).into_iter().filter(|line| line.text.starts_with('#'));
    headings.map(|line| anchor(line.text.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// Returns the target of each link and image of a page, with its line.
pub(super) fn links(page: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for Prose { number, text } in prose(page) {
        let mut is_code = false;
        let mut rest = text;
        while let Some(at) = rest.find(['`', ']']) {
            is_code ^= rest[at..].starts_with('`');
            if !is_code && let Some((target, _)) = rest[at..].strip_prefix("](").and_then(|link| link.split_once(')')) {
                links.push((number, target.to_owned()));
            }
            rest = &rest[at + 1..];
        }
    }
    links
}

#[test]
fn blocks_links_and_anchors_are_found() {
    let page = "# A `b` c-d, e\n[x](y.md#z) `[no](no)`\n<!-- test: skip, it is a test -->\n\n```console\n$ true\n```\n";
    assert_eq!(anchors(page), ["a-b-c-d-e"]);
    assert_eq!(links(page), [(2, "y.md#z".to_owned())]);
    let blocks = blocks(page);
    assert_eq!((blocks[0].line, blocks[0].language.as_str(), blocks[0].text.as_str()), (5, "console", "$ true\n"));
    assert_eq!(blocks[0].directives, ["skip, it is a test"]);
}
