//! Parts that all sections of the document use.

use serde_json::{Map, Value, json};

/// The version of the AMQP 0-9-1 bindings of `AsyncAPI`.
pub(super) const BINDING_VERSION: &str = "0.3.0";

/// An object whose keys keep their order.
pub(super) type Fields = Map<String, Value>;

/// Returns a reference to a component of the document.
pub(super) fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}
