//! How much room there is where something is about to be written.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::said;

/// Refuses to begin what could not be kept: `bytes` that `what` takes, in a folder that is there.
///
/// # Errors
/// `Io` where less is free, as far as the system tells.
pub fn room_for(folder: &Path, bytes: u64, what: &str) -> Result<()> {
    match free(folder) {
        Some(free) if free < bytes => Err(Error::new(
            ErrorKind::Io,
            format!(
                "{} has {} free, and {what} takes {}: make room there or choose a folder on another disk",
                folder.display(),
                said::bytes(free),
                said::bytes(bytes)
            ),
        )),
        _ => Ok(()),
    }
}

/// Bytes that this user may still write where `folder` lies.
fn free(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(folder).ok()?;
        disk.f_bavail.checked_mul(disk.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_holds_is_refused_before_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        room_for(folder.path(), 1, "a byte").unwrap();
        let error = room_for(folder.path(), u64::MAX, "all of it").unwrap_err().to_string();
        assert!(error.contains("all of it takes") && error.contains("another disk"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_left_to_whoever_writes() {
        room_for(Path::new("/no/such/folder"), u64::MAX, "anything").unwrap();
    }
}
