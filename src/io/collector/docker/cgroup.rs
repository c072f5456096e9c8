//! I/O: one container's measurements from the files of its control group, versions 1 and 2.
//!
//! The kernel says to which group a process belongs. The group of a container has the container's
//! id in its name, and where it has, the process is the container's: the engine is on this machine,
//! and what it calls a process id is one here.

use std::fs;
use std::path::{Path, PathBuf};

use super::Usage;
use crate::series::Time;

const PROCESSES: &str = "/proc";
const GROUPS: &str = "/sys/fs/cgroup";

/// The files of one container.
#[derive(Debug, PartialEq)]
pub(super) struct Files {
    version: Version,
    /// Folders of its group; the same in version 2.
    cpu: PathBuf,
    memory: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Files {
    /// `None` if the process `pid` is not the container's, or its files cannot be read here.
    pub fn of(pid: i64, container: &str) -> Option<Files> {
        let membership = Path::new(PROCESSES).join(pid.to_string()).join("cgroup");
        let membership = fs::read_to_string(membership).ok()?;
        let files = folders(&membership, container, Path::new(GROUPS))?;
        files.read(Time::UNIX_EPOCH).map(|_| files)
    }

    /// What was used by `now`; `None` if the container has ended.
    pub fn read(&self, now: Time) -> Option<Usage> {
        let text = |folder: &Path, name| fs::read_to_string(folder.join(name)).ok();
        let (seconds, usage, inactive) = match self.version {
            Version::One => {
                let nanoseconds = number(&text(&self.cpu, "cpuacct.usage")?)?;
                let usage = number(&text(&self.memory, "memory.usage_in_bytes")?)?;
                (nanoseconds as f64 / 1e9, usage, "total_inactive_file")
            }
            Version::Two => {
                let microseconds = field(&text(&self.cpu, "cpu.stat")?, "usage_usec")?;
                let usage = number(&text(&self.memory, "memory.current")?)?;
                (microseconds as f64 / 1e6, usage, "inactive_file")
            }
        };
        // Without the page cache that the kernel would give back, as `docker stats` shows it.
        let detail = text(&self.memory, "memory.stat").unwrap_or_default();
        let memory_bytes = usage.saturating_sub(field(&detail, inactive).unwrap_or(0));
        Some(Usage { time: now, cpu_seconds_total: seconds, memory_bytes })
    }
}

/// Finds the folders below `root` in what the kernel says of a process: lines of
/// `number:controllers:path`, where version 2 has the number 0 and no controllers.
fn folders(membership: &str, container: &str, root: &Path) -> Option<Files> {
    let group = |path: &str| {
        let path = Path::new(path.strip_prefix('/')?);
        // A path that leads upwards is as seen from another group; an id that is cut proves little.
        let named = path.file_name()?.to_str()?.contains(container) && container.len() >= 64;
        let plain = path.components().all(|it| matches!(it, std::path::Component::Normal(_)));
        (named && plain).then(|| path.to_owned())
    };
    let line = |controller: &str| {
        membership.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|it| it == controller).then_some((controllers, path))
        })
    };
    let version_1 = |controller| {
        let (controllers, path) = line(controller)?;
        Some(root.join(controllers).join(group(path)?))
    };
    // Where both versions are mounted, the controllers are with version 1.
    if line("cpuacct").is_some() {
        let (cpu, memory) = (version_1("cpuacct")?, version_1("memory")?);
        return Some(Files { version: Version::One, cpu, memory });
    }
    let folder = root.join(group(line("")?.1)?);
    Some(Files { version: Version::Two, cpu: folder.clone(), memory: folder })
}

fn number(text: &str) -> Option<u64> {
    text.trim_end().parse().ok()
}

/// The value of `key` in lines of `key value`.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9f7d8a8f33e27b0040ec8989743566227bed6bf820399139a6e3c53ca947a3d1";

    /// Version and folders below the root, of the `membership` with `ID` in place of `{id}`.
    fn check_folders(membership: &str, expected: Option<(Version, &str, &str)>) {
        let membership = membership.replace("{id}", ID);
        let found = folders(&membership, ID, Path::new("/root"));
        let expected = expected.map(|(version, cpu, memory)| {
            let folder = |path: &str| Path::new("/root").join(path.replace("{id}", ID));
            Files { version, cpu: folder(cpu), memory: folder(memory) }
        });
        assert_eq!(found, expected, "{membership}");
    }

    #[test]
    fn a_container_s_folders() {
        // As recorded: version 1 with a mount for each controller, beside an idle version 2.
        let hybrid = "4:memory:/docker/{id}\n2:cpuacct:/docker/{id}\n1:cpu:/docker/{id}\n0::/x\n";
        let found = (Version::One, "cpuacct/docker/{id}", "memory/docker/{id}");
        check_folders(hybrid, Some(found));
        // As systemd mounts version 1.
        let joint = "4:cpu,cpuacct:/docker/{id}\n9:memory:/docker/{id}\n";
        let found = (Version::One, "cpu,cpuacct/docker/{id}", "memory/docker/{id}");
        check_folders(joint, Some(found));
        // Version 2, with either driver.
        let scope = "system.slice/docker-{id}.scope";
        check_folders(&format!("0::/{scope}\n"), Some((Version::Two, scope, scope)));
        let plain = "docker/{id}";
        check_folders(&format!("0::/{plain}"), Some((Version::Two, plain, plain)));
    }

    #[test]
    fn what_is_not_the_container_s() {
        for text in [
            "",
            "0::/",
            "0::/user.slice/session-1.scope",
            "0::/../{id}",
            "0::/docker/{id}/..",
            "0::/docker/{id}/child",
            "0::docker/{id}",
            "{id}",
            "::",
            "2:cpuacct:/docker/{id}",
            "2:cpuacct:/\n4:memory:/docker/{id}\n0::/docker/{id}",
        ] {
            check_folders(text, None);
        }
        assert_eq!(folders("0::/docker/9f7d", "9f7d", Path::new("/root")), None);
    }

    /// Seconds and bytes, of a group with these files.
    fn check_usage(version: Version, files: &[(&str, &str)], expected: Option<(f64, u64)>) {
        let folder = tempfile::tempdir().expect("temporary folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("write");
        }
        let (cpu, memory) = (folder.path().to_owned(), folder.path().to_owned());
        let found = Files { version, cpu, memory }.read(Time::UNIX_EPOCH);
        let found = found.map(|usage| (usage.cpu_seconds_total, usage.memory_bytes));
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn usage_of_version_1() {
        let check = |files: &[(&str, &str)], expected| check_usage(Version::One, files, expected);
        let cpu = ("cpuacct.usage", "48685112\n");
        let memory = ("memory.usage_in_bytes", "89313280\n");
        // The children's share is in the usage, so the total counts.
        let detail = "cache 81031168\ninactive_file 5\ntotal_inactive_file 80674816\n";
        // 89 313 280 - 80 674 816.
        check(&[cpu, memory, ("memory.stat", detail)], Some((0.048685112, 8_638_464)));
        check(&[cpu, memory], Some((0.048685112, 89_313_280)));
        check(
            &[cpu, memory, ("memory.stat", "total_inactive_file 90000000")],
            Some((0.048685112, 0)),
        );
        check(&[cpu], None);
        check(&[memory], None);
        check(&[], None);
        for text in ["", "-1", "1e9", "0x10", "99999999999999999999", "1 2"] {
            check(&[("cpuacct.usage", text), memory], None);
        }
    }

    #[test]
    fn usage_of_version_2() {
        let check = |files: &[(&str, &str)], expected| check_usage(Version::Two, files, expected);
        let cpu = "usage_usec 3955663822\nuser_usec 2094548040\nsystem_usec 1861115782\n\
                   nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n";
        let cpu = ("cpu.stat", cpu);
        let memory = ("memory.current", "20103168\n");
        let detail = "anon 7581696\nfile 11812864\ninactive_anon 7573504\ninactive_file 6668288\n";
        // 3 955 663 822 us; 20 103 168 - 6 668 288.
        check(&[cpu, memory, ("memory.stat", detail)], Some((3_955.663_822, 13_434_880)));
        check(&[("cpu.stat", "user_usec 1\nusage_usecs 2\n"), memory], None);
        check(&[("cpu.stat", "usage_usec max"), memory], None);
        check(&[cpu, ("memory.current", "max")], None);
    }
}
