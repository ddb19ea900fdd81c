//! Configuration: defaults, file, environment and flags, into checked types.
