//! What the cache holds: `models--OWNER--NAME` with `blobs` named by checksum, `refs` and `snapshots` that point at them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha1::Sha1;
use sha2::{Digest, Sha256};

use imagen::files::{sweep_orphans, write_whole};

use super::{RepoName, Settings};
use crate::failure::{Failure, Result};

/// One model of the cache.
#[derive(Clone, Debug)]
pub(crate) struct Cached {
    pub(crate) name: RepoName,
    folder: PathBuf,
}

/// A file that is not what its checksum says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Its bytes give another checksum.
    Checksum,
    /// A name that points at nothing.
    Missing,
}

/// The models of the cache, by name.
pub(crate) fn list(settings: &Settings) -> Result<Vec<Cached>> {
    let entries = match fs::read_dir(&settings.cache) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Failure::io("read", &settings.cache, &e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let folder = entry.map_err(|e| Failure::io("read", &settings.cache, &e))?.path();
        let name = folder.file_name().and_then(|name| RepoName::from_folder(name.to_str()?));
        found.extend(name.map(|name| Cached { name, folder }));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Cached {
    /// A model by name, whether or not anything of it is there.
    pub(crate) fn new(settings: &Settings, name: RepoName) -> Self {
        let folder = settings.cache.join(name.folder());
        Self { name, folder }
    }

    /// The folder of the snapshot that a revision points at.
    pub(crate) fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = commit.as_deref().map_or(revision, str::trim);
        let folder = self.folder.join("snapshots").join(commit);
        (!commit.is_empty() && folder.is_dir()).then_some(folder)
    }

    /// Lets a revision point at a commit.
    pub(crate) fn point(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.folder.join("refs").join(revision);
        let write = || {
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder)?;
            sweep_orphans(folder);
            write_whole(&path, |file| file.write_all(commit.as_bytes()))
        };
        write().map_err(|e| Failure::io("write", &path, &e))
    }

    /// The snapshots that are there.
    pub(crate) fn snapshots(&self) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("snapshots");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let mut snapshots = entries(&folder)?;
        snapshots.sort();
        Ok(snapshots)
    }

    /// Bytes on disk: each blob once, unfinished ones too.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let blobs = self.folder.join("blobs");
        if !blobs.is_dir() {
            return Ok(0);
        }
        let sizes = entries(&blobs)?.into_iter().map(|path| fs::metadata(&path).map_or(0, |about| about.len()));
        Ok(sizes.sum())
    }

    /// Every file of every snapshot: its name within the snapshot, and its path.
    pub(crate) fn files(&self) -> Result<Vec<(String, PathBuf)>> {
        let mut files = Vec::new();
        for snapshot in self.snapshots()? {
            walk(&snapshot, &mut |path| {
                let name = path.strip_prefix(&snapshot).expect("it lies in the snapshot");
                files.push((name.to_string_lossy().replace('\\', "/"), path.to_owned()));
            })?;
        }
        Ok(files)
    }

    /// What is wrong with a file, if anything. Blobs are named by SHA-256 where they are large files, by Git's SHA-1
    /// otherwise; a blob with another name cannot be checked and passes.
    pub(crate) fn check(path: &Path) -> Result<Option<Damage>> {
        let Ok(blob) = path.canonicalize() else { return Ok(Some(Damage::Missing)) };
        let name = blob.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let found = match name.len() {
            64 => digest::<Sha256>(&blob, &[]),
            40 => fs::metadata(&blob)
                .and_then(|about| digest::<Sha1>(&blob, format!("blob {}\0", about.len()).as_bytes())),
            _ => return Ok(None),
        };
        let found = found.map_err(|e| Failure::io("read", &blob, &e))?;
        Ok((found != name).then_some(Damage::Checksum))
    }

    /// Removes the blob behind a file and the name that points at it, so that it is fetched again.
    pub(crate) fn forget(path: &Path) -> Result<()> {
        let blob = path.canonicalize().ok();
        for path in blob.as_deref().into_iter().chain([path]) {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Failure::io("remove", path, &e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes all of it.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder).map_err(|e| Failure::io("remove", &self.folder, &e))
    }

    pub(crate) fn exists(&self) -> bool {
        self.folder.is_dir()
    }
}

fn digest<D: Digest>(path: &Path, before: &[u8]) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, D::new(), vec![0; 1 << 20]);
    hash.update(before);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    read.map_err(|e| Failure::io("read", folder, &e))
}

/// Calls `take` with every file below a folder, in order.
fn walk(folder: &Path, take: &mut impl FnMut(&Path)) -> Result<()> {
    let mut paths = entries(folder)?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, take)?;
        } else {
            take(&path);
        }
    }
    Ok(())
}
