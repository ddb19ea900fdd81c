//! What the process of a private server holds: memory, descriptors, files.

use std::path::Path;

use serde::Serialize;

/// Descriptors that may be open beyond those of an idle start.
const MORE_DESCRIPTORS: u64 = 64;
/// Memory of a server under any load, besides what its tasks take, in KiB.
const BASE_KIB: u64 = 800 << 10;
/// Memory that each task of the day may take, in KiB: far above what is stated.
const TASK_KIB: u64 = 24;
/// Growth of memory of an idle server that is none, in KiB.
const NOISE_KIB: u64 = 24 << 10;

/// A look at a process and its data directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Resources {
    /// Resident memory, in KiB.
    pub(super) memory_kib: u64,
    /// Open descriptors.
    pub(super) descriptors: u64,
    /// Files of the data directory.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

impl Resources {
    /// Looks; what can't be read counts as nothing.
    pub(super) fn of(process: u32, directory: &Path) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let memory_kib = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, std::iter::Iterator::count);
        let (files, bytes) = files_below(directory);
        Self { memory_kib, descriptors: u64::try_from(descriptors).unwrap_or(u64::MAX), files, bytes }
    }

    /// What is too much or still grows, seen twice after the work, in words.
    pub(super) fn excess(idle: Self, first: Self, second: Self, tasks: u64) -> Vec<String> {
        let mut excess = Vec::new();
        let limit = idle.descriptors + MORE_DESCRIPTORS;
        if second.descriptors > limit {
            excess.push(format!("{} descriptors are open without clients; at most {limit}", second.descriptors));
        }
        let limit = BASE_KIB + TASK_KIB * tasks;
        if second.memory_kib > limit {
            excess.push(format!("{} KiB of memory after {tasks} tasks; at most {limit}", second.memory_kib));
        }
        if second.memory_kib > first.memory_kib + NOISE_KIB {
            excess.push(format!("memory grows without work: from {} to {} KiB", first.memory_kib, second.memory_kib));
        }
        if second.files > first.files {
            excess.push(format!("files grow without work: from {} to {}", first.files, second.files));
        }
        excess
    }
}

fn files_below(directory: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => {
                    files += 1;
                    bytes += metadata.len();
                }
                // It was removed meanwhile.
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_and_excess_are_told_apart_from_noise() {
        let idle = Resources { memory_kib: 50_000, descriptors: 40, files: 5, bytes: 1 };
        let after = Resources { memory_kib: 300_000, descriptors: 60, files: 900, bytes: 2 };
        assert_eq!(Resources::excess(idle, after, after, 1000), Vec::<String>::new());
        let more = Resources { memory_kib: 900_000, descriptors: 400, files: 901, bytes: 2 };
        let excess = Resources::excess(idle, after, more, 1000);
        assert_eq!(excess.len(), 4, "{excess:?}");
    }

    #[test]
    fn this_process_and_its_directory_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::fs::write(directory.path().join("a/b"), "four").unwrap();
        let seen = Resources::of(std::process::id(), directory.path());
        assert!(seen.memory_kib > 1000 && seen.descriptors > 2, "{seen:?}");
        assert_eq!((seen.files, seen.bytes), (1, 4));
    }
}
