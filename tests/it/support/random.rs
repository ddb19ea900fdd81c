//! Numbers from a seed, and numbers from the environment.

pub(crate) use dats::workload::Random;

/// A number from the environment, for longer or other runs.
pub(crate) fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}
