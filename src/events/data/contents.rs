//! The contents of an output, checked against the checksums of the worker. A
//! checksum with another SHA-256 shows that the output was changed or mixed up on
//! its way.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::json::Findings;
use crate::task::{ArtifactId, Content, OutputArtifact};

/// An artifact of an output: its place in the list, and its content if the output has it.
pub(super) type NewArtifact = (usize, OutputArtifact, Option<String>);

/// Collects the contents by artifact. `whole` is the content of the artifact `names`.
pub(super) fn collect(
    found: &mut Findings,
    names: Option<&ArtifactId>,
    whole: Option<String>,
    artifacts: &mut [NewArtifact],
) -> BTreeMap<ArtifactId, Content> {
    let mut contents = BTreeMap::new();
    if let (Some(id), Some(whole)) = (names, whole) {
        contents.insert(id.clone(), Content::new(whole));
    }
    for (index, artifact, own) in artifacts.iter_mut() {
        let Some(own) = own.take().map(Content::new) else { continue };
        match contents.entry(artifact.id.clone()) {
            Entry::Vacant(place) => drop(place.insert(own)),
            Entry::Occupied(known) if *known.get() == own => {}
            Entry::Occupied(_) => {
                let pointer = format!("/data/output/artifacts/{index}/content");
                found.add(&pointer, format!("differs from the other content of artifact {}", artifact.id));
            }
        }
    }
    for (index, artifact, _) in artifacts.iter() {
        let both = artifact.checksum.as_deref().zip(contents.get(&artifact.id));
        if let Some(contradiction) = both.and_then(|(checksum, content)| content.contradiction(checksum)) {
            found.add(&format!("/data/output/artifacts/{index}/checksum"), contradiction);
        }
    }
    contents
}
