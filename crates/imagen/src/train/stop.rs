//! The wish that a training ends: a file in its run folder, so that whoever may write there can say it, from another process or
//! another machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The file's name in a run folder.
const FILE: &str = "stop";
/// How often it is looked for.
const EVERY: Duration = Duration::from_millis(500);

fn path(run: &Path) -> PathBuf {
    run.join(FILE)
}

/// Asks the training of a run folder to stop as after Ctrl-C: it finishes its step, saves and ends.
///
/// # Errors
/// `Io` where the folder cannot be written to.
pub fn ask_to_stop(run: &Path) -> Result<()> {
    std::fs::write(path(run), b"").map_err(|e| Error::io("write", &path(run), e))
}

/// Whether somebody asked the training of a run folder to stop, looked at twice a second.
#[derive(Debug)]
pub struct StopFile {
    path: PathBuf,
    looked: Option<Instant>,
    asked: bool,
}

impl StopFile {
    /// Of this run folder, in which nobody has asked yet.
    ///
    /// # Errors
    /// `Io` where the wish that ended the training before cannot be removed.
    pub fn new(run: &Path) -> Result<Self> {
        let path = path(run);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(Self { path, looked: None, asked: false }),
        }
    }

    /// Whether somebody has asked by now.
    pub fn asked(&mut self) -> bool {
        if !self.asked && self.looked.is_none_or(|at| at.elapsed() >= EVERY) {
            (self.looked, self.asked) = (Some(Instant::now()), self.path.exists());
        }
        self.asked
    }
}

impl Drop for StopFile {
    fn drop(&mut self) {
        if self.asked {
            // it was heeded; what stays is removed by the next start
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_heard_and_does_not_outlive_the_training_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        ask_to_stop(folder.path()).unwrap();
        let mut stop = StopFile::new(folder.path()).unwrap();
        assert!(!stop.asked(), "that was another training's");
        ask_to_stop(folder.path()).unwrap();
        assert!(!stop.asked(), "it has just been looked for");
        stop.looked = None;
        assert!(stop.asked() && stop.asked());
        drop(stop);
        assert!(!folder.path().join(FILE).exists());
        assert!(ask_to_stop(&folder.path().join("none")).is_err());
    }
}
