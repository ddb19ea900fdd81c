//! The contents that an output carries, held against what the worker says of
//! them: a checksum that names another SHA-256 tells of an output that was
//! changed or mixed up on its way.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::json::Findings;
use crate::task::{ArtifactId, Content, OutputArtifact};

/// An artifact of an output, its place in the list, and its own content.
pub(super) type Carried = (usize, OutputArtifact, Option<String>);

/// The contents by artifact. `whole`, the content of the output, is that of
/// the artifact which the output `names`.
pub(super) fn contents(
    found: &mut Findings,
    names: Option<&ArtifactId>,
    whole: Option<String>,
    artifacts: &mut [Carried],
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
        let said = artifact.checksum.as_deref().zip(contents.get(&artifact.id));
        if let Some(contradiction) = said.and_then(|(checksum, content)| content.contradiction(checksum)) {
            found.add(&format!("/data/output/artifacts/{index}/checksum"), contradiction);
        }
    }
    contents
}
