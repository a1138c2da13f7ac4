//! One writer at a time: a folder, or a file that several processes share, belongs to whoever locked it first.
//!
//! The system drops a lock with its process, however that ends, so that nothing has to be cleaned up after a kill. A
//! folder is locked by itself where the system can do that; elsewhere, as on some network file systems, by a hidden file in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file that stands for a folder that cannot be locked itself.
const FILE: &str = ".imagen.lock";

/// A lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    /// The open file is the lock.
    file: File,
    /// A hidden file that nobody needs afterwards.
    hidden: Option<PathBuf>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // who waits for it finds out and makes a new one; what cannot be removed is only litter
        if let Some(hidden) = self.hidden.take().filter(|hidden| is_at(&self.file, hidden)) {
            let _ = std::fs::remove_file(hidden);
        }
    }
}

/// Whether a file is still the one of this name; never, where the system does not tell.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let id = |it: &std::fs::Metadata| (it.dev(), it.ino());
        matches!((file.metadata(), std::fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        false
    }
}

impl Lock {
    /// Whether somebody holds the lock of a folder now; nothing where that cannot be told.
    pub fn is_held(folder: &Path) -> Option<bool> {
        [folder, &folder.join(FILE)].into_iter().find_map(|path| match File::open(path).ok()?.try_lock_shared() {
            Ok(()) => Some(false),
            Err(TryLockError::WouldBlock) => Some(true),
            Err(TryLockError::Error(_)) => None,
        })
    }

    /// Locks a folder that is there.
    ///
    /// # Errors
    /// `Usage` where another process holds it; `Io`.
    pub fn folder(folder: &Path) -> Result<Self> {
        let busy = || {
            Error::usage(format!(
                "{} is in use: another process writes into it; wait until that one ends, or choose another folder",
                folder.display()
            ))
        };
        // a system that cannot open or lock a folder says so in many ways; the file tells what is wrong
        if let Ok(file) = File::open(folder) {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, hidden: None }),
                Err(TryLockError::WouldBlock) => return Err(busy()),
                Err(TryLockError::Error(_)) => {}
            }
        }
        let path = folder.join(FILE);
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, hidden: None }),
            Err(TryLockError::WouldBlock) => Err(busy()),
            Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
        }
    }

    /// Locks a file that several processes write in turn, by a hidden file beside it, and waits for whoever holds it; `waiting`
    /// is called once where somebody does.
    ///
    /// # Errors
    /// `Io`.
    pub fn beside(path: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let lock = path.with_file_name(format!(".{name}.lock"));
        let mut waiting = Some(waiting);
        loop {
            let file = open(&lock)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    waiting.take().into_iter().for_each(|tell| tell());
                    file.lock().map_err(|e| Error::io("lock", &lock, e))?;
                }
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &lock, e)),
            }
            // whoever held it may have removed the file: then the lock is of a file that nobody else will find
            if !cfg!(unix) || is_at(&file, &lock) {
                return Ok(Self { file, hidden: Some(lock) });
            }
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    opened.map_err(|e| Error::io("create", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_folder_belongs_to_one_until_that_one_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let held = Lock::folder(folder.path()).unwrap();
        let error = Lock::folder(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("another process writes into it"), "{error}");
        assert_eq!(Lock::is_held(folder.path()), Some(true));
        drop(held);
        assert_eq!(Lock::is_held(folder.path()), Some(false));
        assert_eq!(Lock::is_held(&folder.path().join("none")), None);
        Lock::folder(folder.path()).unwrap();
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "a folder that can be locked holds no file for it"
        );
    }

    #[test]
    fn who_shares_a_file_waits_for_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.safetensors");
        let held = Lock::beside(&path, || panic!("nobody holds it")).unwrap();
        std::thread::scope(|scope| {
            let (told, heard) = std::sync::mpsc::channel();
            let other = scope.spawn(|| Lock::beside(&path, move || told.send(()).unwrap()).map(drop));
            heard.recv().unwrap();
            assert!(!other.is_finished());
            drop(held);
            other.join().unwrap().unwrap();
        });
        #[cfg(unix)]
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the last one leaves no file behind");
    }
}
