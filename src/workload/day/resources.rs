//! Resources that the process of a private server uses: memory, descriptors, files.

use std::path::Path;

use serde::Serialize;

/// Descriptors that may be open in addition to those after an idle start.
const MAX_ADDITIONAL_DESCRIPTORS: u64 = 64;
/// Memory that a server may use under load besides the memory of its tasks, in KiB.
const BASE_KIB: u64 = 800 << 10;
/// Memory that each task of the day may use, in KiB: well above the documented figure.
const TASK_KIB: u64 = 24;
/// Growth of the memory of an idle server that is not a finding, in KiB.
const NOISE_KIB: u64 = 24 << 10;

/// Resources of a process and its data directory at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// Resident memory, in KiB.
    pub memory_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Files in the data directory.
    pub files: u64,
    /// Total size of these files, in bytes.
    pub bytes: u64,
}

impl Resources {
    /// Reads the resources. What can't be read counts as zero.
    pub(super) fn read(process: u32, directory: &Path) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let memory_kib = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, std::iter::Iterator::count);
        let (files, bytes) = files_below(directory);
        Self { memory_kib, descriptors: u64::try_from(descriptors).unwrap_or(u64::MAX), files, bytes }
    }

    /// Describes what exceeds its limit or still grows, from two readings after the work.
    pub(super) fn excesses(idle: Self, first: Self, second: Self, tasks: u64) -> Vec<String> {
        let mut excess = Vec::new();
        let limit = idle.descriptors + MAX_ADDITIONAL_DESCRIPTORS;
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
                // The file was removed meanwhile.
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
    fn growth_and_excess_are_distinguished_from_noise() {
        let idle = Resources { memory_kib: 50_000, descriptors: 40, files: 5, bytes: 1 };
        let after = Resources { memory_kib: 300_000, descriptors: 60, files: 900, bytes: 2 };
        assert_eq!(Resources::excesses(idle, after, after, 1000), Vec::<String>::new());
        let more = Resources { memory_kib: 900_000, descriptors: 400, files: 901, bytes: 2 };
        let excess = Resources::excesses(idle, after, more, 1000);
        assert_eq!(excess.len(), 4, "{excess:?}");
    }

    #[test]
    fn the_resources_of_this_process_are_read() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::fs::write(directory.path().join("a/b"), "four").unwrap();
        let seen = Resources::read(std::process::id(), directory.path());
        assert!(seen.memory_kib > 1000 && seen.descriptors > 2, "{seen:?}");
        assert_eq!((seen.files, seen.bytes), (1, 4));
    }
}
