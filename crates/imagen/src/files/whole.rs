//! Files that are whole or not there: written under a hidden name, synced, renamed, and the rename synced too.
//!
//! Whoever writes under a hidden name holds its lock. So a hidden name without one was left by a process that was killed, and
//! may be removed by anybody, also in a folder that others write into.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What every temporary name begins and ends with. The file's own name is not in it: it may be as long as names can be.
const TEMPORARY: (&str, &str) = (".imagen-", ".tmp");

/// Writes a file of which nobody ever sees a part.
///
/// # Errors
/// The system's; the file is then as it was before.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (temporary, file) = create_in(folder)?;
    let finish = || {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        let file = file.into_inner()?;
        file.sync_all()?;
        // the lock is held until the name is another
        fs::rename(&temporary, path)
    };
    finish().inspect_err(|_| {
        // the first error is the one to report; a temporary file that stays is only litter
        let _ = fs::remove_file(&temporary);
    })?;
    // makes the rename itself durable, where the system lets a folder be opened
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes what killed processes left half-written in a folder; nothing where there is no such folder. Whoever calls this must be
/// the only one who writes there ([`Lock`](super::Lock)).
///
/// # Errors
/// `Io`.
pub fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_temporary(&entry.path()) {
            fs::remove_file(entry.path()).map_err(|e| Error::io("remove", &entry.path(), e))?;
        }
    }
    Ok(())
}

/// As [`sweep`], in a folder that others may write into at the same time; what cannot be removed stays.
pub fn sweep_orphans(folder: &Path) {
    if !cfg!(unix) {
        return;
    }
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if !is_temporary(&path) || !fs::symlink_metadata(&path).is_ok_and(|it| it.is_file()) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// A new file in a folder, locked, under a name that no other process or thread is using.
fn create_in(folder: &Path) -> io::Result<(PathBuf, File)> {
    let (begin, end) = TEMPORARY;
    for attempt in 0u32.. {
        let temporary = folder.join(format!("{begin}{}-{attempt}{end}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            // whoever sweeps may have come before the lock; a system without locks has nobody who sweeps by them
            Ok(file) if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !temporary.exists() => {}
            Ok(file) => return Ok((temporary, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 1000 => {}
            Err(e) => return Err(e),
        }
    }
    unreachable!("the last attempt returns")
}

/// Whether this is the name of a file that was never finished, by this program or an earlier version of it.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = |text: &str| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() <= 2 && parts.iter().all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()))
    };
    let (begin, end) = TEMPORARY;
    let new = name.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)).is_some_and(numbers);
    let middle = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(end));
    new || middle.and_then(|rest| rest.rsplit_once('.')).is_some_and(|(_, rest)| numbers(rest))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        fs::write(&path, "old").unwrap();
        let error = write_whole(&path, |file| {
            file.write_all(b"half a file")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_name_may_be_as_long_as_names_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m".repeat(255));
        write_whole(&path, |file| file.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_being_written_is_no_orphan() {
        let folder = tempfile::tempdir().unwrap();
        let orphan = folder.path().join(".imagen-12-0.tmp");
        fs::write(&orphan, "half").unwrap();
        write_whole(&folder.path().join("m"), |file| {
            sweep_orphans(folder.path());
            assert!(!orphan.exists(), "left by somebody who is gone");
            file.write_all(b"whole")
        })
        .unwrap();
        let left: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["m"]);
    }

    #[test]
    fn only_what_was_never_finished_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let (temporary, file) = create_in(folder.path()).unwrap();
        drop(file);
        assert!(is_temporary(&temporary), "{}", temporary.display());
        let kept = ["m", ".m.tmp", ".m.1-a.tmp", "m.1-0.tmp", ".imagen-.tmp", ".imagen-1.tmp.png", ".m.1-2-3.tmp"];
        for name in kept.iter().chain(&[".base.safetensors.12-0.tmp", ".a.png.12.tmp"]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        sweep(folder.path()).unwrap();
        let mut left: Vec<String> =
            folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut expected = kept.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(left, expected);
        sweep(&folder.path().join("nowhere")).unwrap();
    }
}
