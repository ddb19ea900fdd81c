//! Sizes at which a careless implementation falls over.
