//! Where pictures go: names from a pattern, checked before any sampling, and files that are whole or not there.
//!
//! [`Outputs::plan`] refuses what would fail or destroy something after minutes of work: two pictures of one name, a file
//! that exists, a folder that cannot be written to. What a PNG says about itself is in `record`.

pub(crate) mod labels;
mod pattern;
pub(crate) mod record;
pub(crate) mod shell;
pub(crate) mod table;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use imagen::files::{Lock, sweep, sweep_orphans, write_whole};
use imagen::image::{Picture, PngText, export, png};

use self::pattern::Pattern;
pub(crate) use self::pattern::Subject;
use crate::failure::{Failure, Result};

/// The pattern of a picture's name where none is given, or where a folder is.
pub(crate) const DEFAULT_PATTERN: &str = "{prompt}-{seed}.png";

/// The value of `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `-`: one PNG on stdout.
    Stdout,
    /// Files.
    Files(Names),
}

/// How files are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pattern: Pattern,
    /// Whether somebody chose them; else they are numbered where they are taken.
    chosen: bool,
    format: Format,
}

/// How pictures are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    WebP,
}

impl Target {
    /// Whether somebody chose the names.
    pub(crate) fn is_chosen(&self) -> bool {
        matches!(self, Self::Files(Names { chosen: true, .. }))
    }

    /// For pictures that follow each other: names that nobody chose say the position, too.
    pub(crate) fn in_order(&self) -> Self {
        match self.clone() {
            Self::Files(names) if !names.chosen => Self::Files(Names { pattern: names.pattern.in_order(), ..names }),
            other => other,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        if value == "-" {
            return Ok(Self::Stdout);
        }
        let names = |pattern: &str, chosen, format| -> Result<Self, String> {
            Ok(Self::Files(Names { pattern: pattern.parse()?, chosen, format }))
        };
        if value == DEFAULT_PATTERN {
            return names(value, false, Format::Png);
        }
        if value.ends_with(std::path::is_separator) || Path::new(value).is_dir() {
            let folder = value.trim_end_matches(std::path::is_separator);
            return names(&format!("{folder}/{DEFAULT_PATTERN}"), false, Format::Png);
        }
        let extension = Path::new(value).extension().and_then(|e| e.to_str()).map(str::to_lowercase);
        let format = match extension.as_deref() {
            Some("jpg" | "jpeg") => Format::Jpeg,
            Some("webp") => Format::WebP,
            Some(other @ ("gif" | "bmp" | "tif" | "tiff" | "avif" | "jxl")) => {
                return Err(format!("{other} is not supported; end the name in .png, .jpg or .webp"));
            }
            _ => Format::Png,
        };
        names(value, true, format)
    }
}

/// A place for every picture of a command.
#[derive(Debug)]
pub(crate) struct Outputs(Option<(Vec<PathBuf>, Format)>);

impl Outputs {
    /// Finds every picture's name, makes the folders, and refuses what could not be written or would be lost.
    ///
    /// # Errors
    /// `Usage` where names collide or files exist (unless `force`) or stdout cannot take the pictures; `Runtime` where a
    /// folder cannot be made or written to.
    pub(crate) fn plan(target: &Target, subjects: &[Subject], force: bool) -> Result<Self> {
        let Target::Files(names) = target else {
            if subjects.len() != 1 {
                let message = format!("--output - takes one picture, and this command makes {}", subjects.len());
                return Err(Failure::usage(message).hint("name files instead, e.g. --output '{index}.png'"));
            }
            if io::stdout().is_terminal() {
                let failure = Failure::usage("--output - would print a PNG on the terminal");
                return Err(failure.hint("send it somewhere: imagen sample … --output - > picture.png"));
            }
            return Ok(Self(None));
        };
        let Names { pattern, chosen, format } = names;
        let mut names: Vec<PathBuf> = subjects.iter().map(|subject| pattern.name(subject)).collect();
        if !chosen {
            number(&mut names, force);
        }
        check_different(&names)?;
        for name in &names {
            check_name(name)?;
            if name.is_file() && !force {
                let failure = Failure::usage(format_args!("{} already exists", name.display()));
                return Err(failure.hint("choose another --output, or overwrite it with --force"));
            }
        }
        make_folders(&names)?;
        Ok(Self(Some((names, *format))))
    }

    /// Places for those pictures that `ours` picks by number and that are not there yet (with `force`, also for those that are),
    /// and the numbers of these. Every process that shares the work finds the same names.
    ///
    /// # Errors
    /// As [`Self::plan`]; files that exist are no error.
    pub(crate) fn share(
        target: &Target,
        subjects: &[Subject],
        force: bool,
        ours: impl Fn(usize) -> bool,
    ) -> Result<(Self, Vec<usize>)> {
        let Target::Files(Names { pattern, format, .. }) = target else {
            return Err(Failure::usage("--output - takes one picture, and a share is of several"));
        };
        let names: Vec<PathBuf> = subjects.iter().map(|subject| pattern.name(subject)).collect();
        check_different(&names)?;
        let missing = |index: &usize| ours(*index) && (force || !names[*index].exists());
        let missing: Vec<usize> = (0..names.len()).filter(missing).collect();
        let names: Vec<PathBuf> = missing.iter().map(|index| names[*index].clone()).collect();
        make_folders(&names)?;
        Ok((Self(Some((names, *format))), missing))
    }

    /// Writes a picture with its text, which JPEG and WebP do not hold; the path, or `None` where it went to stdout.
    pub(crate) fn write(&self, index: usize, picture: &Picture, text: &PngText) -> Result<Option<&Path>> {
        let format = self.0.as_ref().map_or(Format::Png, |(_, format)| *format);
        let bytes = match format {
            Format::Png => png::encode(picture, text)?,
            Format::Jpeg => export::jpeg(picture)?,
            Format::WebP => export::webp(picture)?,
        };
        self.write_bytes(index, &bytes)
    }

    fn write_bytes(&self, index: usize, bytes: &[u8]) -> Result<Option<&Path>> {
        let Some((names, _)) = &self.0 else {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
            return written.map(|()| None).map_err(|e| Failure::stdout(&e));
        };
        let name = &names[index];
        write_file(name, bytes)?;
        Ok(Some(name))
    }
}

/// Fails where two pictures would be one file.
fn check_different(names: &[PathBuf]) -> Result<()> {
    let mut owners: HashMap<&Path, usize> = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(other) = owners.insert(name, index) {
            let message = format!("pictures {other} and {index} would both be {}", name.display());
            return Err(
                Failure::usage(message).hint("put {index} or {seed} into --output, e.g. '{prompt}-{index}.png'")
            );
        }
    }
    Ok(())
}

/// Makes the folders that files lie in, and fails where nothing can be written to them.
fn make_folders(names: &[PathBuf]) -> Result<()> {
    let mut folders: Vec<&Path> = names.iter().filter(|name| !is_device(name)).map(|name| folder_of(name)).collect();
    folders.dedup();
    for folder in folders {
        make_writable(folder)?;
    }
    Ok(())
}

/// Gives names that are taken, by files (unless `force`) or by each other, the next number that is free.
fn number(names: &mut [PathBuf], force: bool) {
    let mut taken: HashSet<PathBuf> = HashSet::new();
    for name in names {
        let free = |name: &Path| !taken.contains(name) && (force || !name.exists());
        if !free(name) {
            let stem = name.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let numbered = |k: u64| name.with_file_name(format!("{stem}-{k}.png"));
            *name = (2..).map(numbered).find(|name| free(name)).expect("numbers do not end");
        }
        taken.insert(name.clone());
    }
}

/// Writes a file that is either whole or not there: a temporary name, synced, renamed. Devices and pipes are written to
/// directly.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let device = || {
        check_reader(path)?;
        File::options().write(true).open(path)?.write_all(bytes)
    };
    let written = if is_device(path) { device() } else { write_whole(path, |file| file.write_all(bytes)) };
    written.map_err(|e| Failure::io("write", path, &e))
}

/// Makes a folder with all above it, or finds it.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Failure::io("create the folder", folder, &e))
}

/// Makes a folder, or finds it, as this process' own until the lock is dropped, without what killed ones left half-written.
///
/// # Errors
/// `Usage` where another process writes there; `Runtime` where it cannot be made or written to.
pub(crate) fn own_folder(folder: &Path) -> Result<Lock> {
    make_folder(folder)?;
    let lock = Lock::folder(folder)?;
    check_writable(folder)?;
    sweep(folder)?;
    Ok(lock)
}

/// The lock of a folder where it is there already; a new one is its maker's.
///
/// # Errors
/// As [`own_folder`].
pub(crate) fn own_folder_if_there(folder: &Path) -> Result<Option<Lock>> {
    if folder.is_dir() { own_folder(folder).map(Some) } else { Ok(None) }
}

/// Makes the folder of a file that a flag names, and refuses what could not be written or would be lost.
///
/// # Errors
/// `Usage` where the file exists (unless `force`); `Runtime` where its folder cannot be made or written to.
pub(crate) fn check_new(flag: &str, path: &Path, force: bool) -> Result<()> {
    if path.is_file() && !force {
        let failure = Failure::usage(format_args!("{} already exists", path.display()));
        return Err(failure.hint(format_args!("choose another {flag}, or overwrite it with --force")));
    }
    check_name(path)?;
    let folder = folder_of(path);
    make_writable(folder)
}

/// As [`write_file`], of what a verb writes once; what killed processes left half-written beside it goes.
pub(crate) fn write_document(path: &Path, bytes: &[u8]) -> Result<()> {
    sweep_orphans(folder_of(path));
    write_file(path, bytes)
}

/// Makes a folder, or finds it, and fails where a file cannot be made in it; others may write there too.
pub(crate) fn make_writable(folder: &Path) -> Result<()> {
    make_folder(folder)?;
    check_writable(folder)
}

/// Fails where a file cannot be made in this folder. What killed processes left half-written there goes.
pub(crate) fn check_writable(folder: &Path) -> Result<()> {
    let probe = folder.join(format!(".imagen-{}.tmp", std::process::id()));
    let made = File::create(&probe).and_then(|_| match fs::remove_file(&probe) {
        // another process took it for one of those
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    });
    sweep_orphans(folder);
    made.map_err(|e| Failure::io("write to the folder", folder, &e))
}

/// Fails where a file of this name cannot be written: a name longer than names can be, a folder, a pipe that nobody reads.
pub(crate) fn check_name(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidFilename => Err(Failure::io("write", path, &e)),
        Ok(it) if it.is_dir() => Err(Failure::usage(format_args!("{} is a folder", path.display()))),
        _ if is_device(path) => check_reader(path).map_err(|e| Failure::io("write", path, &e)),
        _ => Ok(()),
    }
}

/// Fails where nobody reads a pipe, whose opening would wait for ever.
#[cfg(unix)]
fn check_reader(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

    if !fs::metadata(path)?.file_type().is_fifo() {
        return Ok(());
    }
    let opened = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path);
    opened.map(|_| ()).map_err(|e| match e.raw_os_error() {
        Some(libc::ENXIO) => io::Error::new(io::ErrorKind::InvalidFilename, "nobody reads from this pipe"),
        _ => e,
    })
}

#[cfg(not(unix))]
fn check_reader(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Something that exists and is neither a file nor a folder.
fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir())
}

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    fn subjects(count: usize) -> Vec<Subject> {
        (0..count).map(|index| Subject { index, prompt: "a cat".into(), seed: 5 + index as u64 }).collect()
    }

    fn target(folder: &Path, pattern: &str) -> Target {
        format!("{}/{pattern}", folder.display()).parse().unwrap()
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn parent_folders_are_made_and_nothing_else_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::plan(&target(folder.path(), "a/b/"), &subjects(2), false).unwrap();
        assert_eq!(files(&folder.path().join("a/b")), [""; 0]);
        for index in 0..2 {
            outputs.write_bytes(index, b"png").unwrap();
        }
        assert_eq!(files(&folder.path().join("a/b")), ["a-cat-5.png", "a-cat-6.png"]);
    }

    #[test]
    fn a_file_that_exists_is_refused_without_force() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("1.png"), b"precious").unwrap();
        let target = target(folder.path(), "{index}.png");
        let failure = Outputs::plan(&target, &subjects(2), false).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("1.png already exists"), "{failure}");
        let outputs = Outputs::plan(&target, &subjects(2), true).unwrap();
        outputs.write_bytes(1, b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("1.png")).unwrap(), b"new");
    }

    #[test]
    fn two_pictures_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let failure = Outputs::plan(&target(folder.path(), "{prompt}.png"), &subjects(2), true).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("would both be"), "{failure}");
    }

    #[test]
    fn a_failed_write_leaves_no_partial_file() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("taken");
        fs::create_dir(&name).unwrap();
        fs::write(name.join("content"), b"").unwrap();
        write_file(&name, b"a file cannot replace a full folder").unwrap_err();
        assert_eq!(files(folder.path()), ["taken"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_reported() {
        let target: Target = "/dev/full".parse().unwrap();
        let outputs = Outputs::plan(&target, &subjects(1), false).unwrap();
        let failure = outputs.write_bytes(0, &[0; 100_000]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Runtime);
        assert!(failure.to_string().contains("No space left"), "{failure}");
    }

    #[test]
    fn names_that_the_program_chooses_are_numbered_where_they_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a-cat-5.png"), b"precious").unwrap();
        fs::write(folder.path().join("a-cat-5-2.png"), b"precious").unwrap();
        let twice = [subjects(1), subjects(2)].concat();
        let names = |force| {
            let outputs = Outputs::plan(&target(folder.path(), ""), &twice, force).unwrap();
            let (names, _) = outputs.0.unwrap();
            names.iter().map(|name| name.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["a-cat-5-3.png", "a-cat-5-4.png", "a-cat-6.png"]);
        assert_eq!(names(true), ["a-cat-5.png", "a-cat-5-2.png", "a-cat-6.png"]);
    }

    #[test]
    fn the_ending_chooses_the_format_and_other_formats_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let picture = Picture::filled(8, 8, [10, 200, 30]);
        for (name, start) in
            [("a.JPG", &b"\xff\xd8"[..]), ("b.webp", b"RIFF"), ("c.png", b"\x89PNG"), ("d", b"\x89PNG")]
        {
            let outputs = Outputs::plan(&target(folder.path(), name), &subjects(1), false).unwrap();
            let path = outputs.write(0, &picture, &PngText::default()).unwrap().unwrap();
            assert!(fs::read(path).unwrap().starts_with(start), "{name}");
        }
        assert!("a.gif".parse::<Target>().unwrap_err().contains("gif is not supported; end the name in .png"));
        assert_eq!("-".parse(), Ok(Target::Stdout));
    }
}
