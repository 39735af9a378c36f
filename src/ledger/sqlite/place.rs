//! Where a ledger may lie: on a file system known to keep locks and a write-ahead log, under one name.
//!
//! SQLite and the run lock find each other by names in one folder, and by memory that processes share. A file that is
//! mounted alone has another folder, and so another `-wal` and another lock; a network or FUSE file system may have
//! another machine behind it that shares neither.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A ledger's path, and which file systems the configuration trusts besides those that are known to be sound.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub path: &'a Path,
    /// Types as `/proc/self/mountinfo` and `findmnt` name them, such as `fuse.bindfs`.
    pub trusted: &'a [String],
}

/// Local file systems whose locks and shared memory hold for every process that sees the file, by `statfs` type.
const SOUND: [i64; 11] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x2fc1_2fc1, // zfs
    0xf2f5_2010, // f2fs
    0xca45_1a4e, // bcachefs
    0x794c_7630, // overlay
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x3153_464a, // jfs
    0x3434,      // nilfs2
];

/// Names for types, where `/proc` is not there to tell.
const NAMES: [(i64, &str); 12] = [
    (0x6573_5546, "fuse"),
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "afs"),
    (0x00c3_6400, "ceph"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
    (0x4d44, "vfat"),
    (0x786f_4256, "vboxsf"),
];

impl Place<'_> {
    /// Refuses a place for a ledger that is not there yet.
    ///
    /// # Errors
    /// Exit 78 on a file system that is not known to be sound, or when a file beside it is a mount point.
    pub fn check_new(&self) -> Result<(), Failure> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.refuse_file_system(folder)?;
        self.check_files()
    }

    /// Refuses files of a ledger, its own or those beside it, that are mounted alone or lie on an unsound file system.
    ///
    /// # Errors
    /// Exit 78, with the folder to mount, or the name of the file system.
    pub(super) fn check_files(&self) -> Result<(), Failure> {
        let real = self.path.canonicalize().unwrap_or_else(|_| self.path.to_owned());
        for end in ["", "-wal", "-shm", ".lock"] {
            let mut file = real.clone().into_os_string();
            file.push(end);
            let file = PathBuf::from(file);
            if is_mount_point(&file) {
                return Err(mounted_alone(&file, &real));
            }
            match self.refuse_file_system(&file) {
                // The log comes and goes with the runs.
                Err(_) if !file.exists() => {}
                looked => looked?,
            }
        }
        Ok(())
    }

    fn refuse_file_system(&self, path: &Path) -> Result<(), Failure> {
        let Some(kind) = file_system(path) else {
            return Err(Failure::config(
                format!("could not learn on which file system {} lies", path.display()),
                "make its folder readable for the user cron runs as",
            ));
        };
        if SOUND.contains(&kind) {
            return Ok(());
        }
        let by_number = || NAMES.iter().find(|(number, _)| *number == kind).map(|(_, name)| (*name).to_owned());
        let named = mount_of(path).map(|mount| mount.kind).or_else(by_number);
        let word = named.unwrap_or_else(|| format!("0x{kind:x}"));
        if self.trusted.contains(&word) {
            return Ok(());
        }
        Err(Failure::config(
            format!(
                "{} lies on a file system of the type {word}, which is not known to keep locks and write-ahead log for one machine alone",
                path.display()
            ),
            format!(
                "put the ledger on a local disk (ext4, xfs, btrfs, zfs …); only if no other machine can ever reach it there, add trusted_file_systems = [{word:?}] to the configuration"
            ),
        ))
    }
}

fn mounted_alone(file: &Path, ledger: &Path) -> Failure {
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    let from = mount_of(file).and_then(|mount| Some(Path::new(&mount.root).parent()?.display().to_string()));
    let from = from.map_or_else(
        || "the folder that holds it".into(),
        |from| format!("the folder that holds it ({from} on its disk)"),
    );
    Failure::config(
        format!(
            "{} is a mount point by itself: under its other name it would have another lock and another -wal file",
            file.display()
        ),
        format!("mount {from} instead, so that {} comes with all its files", folder.display()),
    )
}

/// A mount, from `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// What of its file system is mounted.
    root: String,
    point: String,
    kind: String,
}

/// Whether a mount hangs on this very file.
fn is_mount_point(file: &Path) -> bool {
    if let Some(is_root) = statx_mount_root(file) {
        return is_root;
    }
    let Ok(real) = file.canonicalize() else { return false };
    mounts().iter().any(|mount| Path::new(&mount.point) == real)
}

/// What `statx` says: `None` from a kernel before 5.8.
fn statx_mount_root(file: &Path) -> Option<bool> {
    let name = CString::new(file.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: statx is plain data, and both pointers are valid for the call.
    let stat = unsafe {
        let mut stat: libc::statx = std::mem::zeroed();
        if libc::statx(libc::AT_FDCWD, name.as_ptr(), 0, libc::STATX_TYPE, &mut stat) != 0 {
            return None;
        }
        stat
    };
    let root = libc::STATX_ATTR_MOUNT_ROOT as u64;
    (stat.stx_attributes_mask & root != 0).then_some(stat.stx_attributes & root != 0)
}

/// The `statfs` type.
fn file_system(path: &Path) -> Option<i64> {
    let name = CString::new(path.as_os_str().as_encoded_bytes()).ok()?;
    // SAFETY: statfs is plain data, and both pointers are valid for the call.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        (libc::statfs(name.as_ptr(), &mut stat) == 0).then_some(stat.f_type as i64 & 0xffff_ffff)
    }
}

/// The mount that a path lies on: the longest mount point above it, the newest of those that lie on each other.
fn mount_of(path: &Path) -> Option<Mount> {
    let real = path.canonicalize().ok()?;
    let above = mounts().into_iter().filter(|mount| real.starts_with(&mount.point));
    above.max_by_key(|mount| mount.point.len())
}

fn mounts() -> Vec<Mount> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount_from).collect()
}

/// One line, as proc_pid_mountinfo(5) has it: `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw`.
fn mount_from(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    Some(Mount {
        root: unescaped(before.next()?),
        point: unescaped(before.next()?),
        kind: after.split(' ').next()?.to_owned(),
    })
}

/// Spaces, tabs, line feeds and backslashes stand there as three octal digits.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_understood() {
        let line =
            r"36 35 98:0 /srv/my\040shop/mailonce.db /data/mailonce.db rw,noatime master:1 - fuse.sshfs shop:/ rw";
        let mount = mount_from(line).unwrap();
        assert_eq!(mount.root, "/srv/my shop/mailonce.db");
        assert_eq!(mount.point, "/data/mailonce.db");
        assert_eq!(mount.kind, "fuse.sshfs");
        assert_eq!(mount_from("nonsense"), None);
    }

    #[test]
    fn an_unsound_file_system_is_refused_by_its_name_and_trusted_by_its_name() {
        // procfs is on every machine, and no one keeps a ledger there.
        let path = Path::new("/proc/self/status");
        let refused = Place { path, trusted: &[] }.refuse_file_system(path).unwrap_err();
        assert!(refused.what.contains("of the type proc,"), "{refused}");
        assert!(refused.next.contains("trusted_file_systems = [\"proc\"]"), "{refused}");
        let trusted = ["proc".to_owned()];
        assert!(Place { path, trusted: &trusted }.refuse_file_system(path).is_ok());
        let other = ["fuse.sshfs".to_owned()];
        assert!(Place { path, trusted: &other }.refuse_file_system(path).is_err());
    }

    #[test]
    fn a_plain_file_is_no_mount_point() {
        assert!(!is_mount_point(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()));
        assert!(is_mount_point(Path::new("/proc")));
    }
}
