//! Jobs and pictures in SQLite: `studio.sqlite` in the studio's folder, beside `pictures/`.
//!
//! Every change is a transaction in the write-ahead log, synced before anybody is told; a picture's row is written when its file
//! is whole. What the program was doing when it was killed is marked the next time. Files are named by ids that are made here,
//! never by anything that a client sends.

mod uploads;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use imagen::files::Lock;
use imagen::{Error, ErrorKind};

use crate::begin::BeginOrder;
use crate::ids;
use crate::wire::{JobView, Order, PictureView, RemarkView, State};

/// The form of the tables; a file of an older one is brought to it, one of a newer is not read.
const VERSION: i64 = 3;
/// How long one program waits for another's transaction.
const PATIENCE: Duration = Duration::from_secs(2);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    client TEXT NOT NULL,
    key TEXT,
    state TEXT NOT NULL,
    request TEXT NOT NULL,
    error TEXT,
    created_ms INTEGER NOT NULL,
    begun_ms INTEGER,
    ended_ms INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_of_client ON jobs (client, number);
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (client, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (state) WHERE state IN ('queued', 'running');
CREATE TABLE IF NOT EXISTS pictures (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    job TEXT NOT NULL,
    place INTEGER NOT NULL,
    prompt TEXT NOT NULL,
    seed INTEGER NOT NULL,
    model TEXT NOT NULL,
    until TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    request TEXT NOT NULL,
    stages TEXT NOT NULL,
    command TEXT NOT NULL,
    seconds REAL NOT NULL,
    created_ms INTEGER NOT NULL,
    favourite INTEGER NOT NULL DEFAULT 0,
    deleted_ms INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS pictures_of_job ON pictures (job, place);
CREATE TABLE IF NOT EXISTS uploads (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL UNIQUE,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS begins (
    job TEXT NOT NULL,
    upload TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS begins_of_upload ON begins (upload);
CREATE TABLE IF NOT EXISTS remarks (
    job TEXT PRIMARY KEY,
    remarks TEXT NOT NULL
) STRICT;
";

const JOB: &str = "SELECT id, state, request, error, created_ms, begun_ms, ended_ms, client, remarks FROM jobs \
                   LEFT JOIN remarks ON job = id";
const PICTURE: &str = "SELECT id, job, place, prompt, seed, model, until, width, height, request, stages, command, seconds, \
                       created_ms, favourite FROM pictures";

type Result<T> = rusqlite::Result<T>;

/// The studio's folder.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    writing: Mutex<Connection>,
    /// Who reads does not wait for who writes.
    reading: Mutex<Connection>,
    /// One server at a time.
    _lock: Lock,
}

/// Which pictures of the gallery.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Words that the prompt holds, in any order.
    pub(crate) search: String,
    pub(crate) favourites: bool,
    /// Only those that came before this one.
    pub(crate) before: Option<String>,
    pub(crate) limit: usize,
}

impl Store {
    /// Opens the folder, and makes it where there is none. Jobs that were being drawn are marked as interrupted.
    ///
    /// # Errors
    /// `Io` where the folder cannot be made or the database not be opened; `Data` where it is of another version.
    pub(crate) fn open(folder: &Path) -> imagen::Result<Self> {
        let [pictures, uploads] = ["pictures", "uploads"].map(|name| folder.join(name));
        for folder in [&pictures, &uploads] {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("make", folder, e))?;
        }
        // two servers would each take the other's jobs for interrupted ones
        let lock = Lock::folder(&pictures)?;
        imagen::files::sweep(&pictures)?;
        imagen::files::sweep(&uploads)?;
        let path = folder.join("studio.sqlite");
        let failed = |e: rusqlite::Error| Error::new(ErrorKind::Io, format!("cannot open {}: {e}", path.display()));
        let connect = || {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(PATIENCE)?;
            Ok(connection)
        };
        let open = || -> Result<(Connection, i64)> {
            let connection = connect()?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version < VERSION {
                // what came with a later version are tables of their own
                connection.execute_batch(TABLES)?;
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            Ok((connection, version.max(VERSION)))
        };
        let (writing, version) = open().map_err(failed)?;
        if version != VERSION {
            let message = format!("{} has version {version}; this program reads {VERSION}", path.display());
            return Err(Error::data(message));
        }
        let reading = connect().map_err(failed)?;
        let store =
            Self { folder: folder.to_owned(), writing: Mutex::new(writing), reading: Mutex::new(reading), _lock: lock };
        store.mark_interrupted().map_err(failed)?;
        Ok(store)
    }

    fn mark_interrupted(&self) -> Result<()> {
        let sql = "UPDATE jobs SET state = 'interrupted', ended_ms = ?1, \
                   error = 'the server ended while this was drawn; run it again' WHERE state = 'running'";
        lock(&self.writing).execute(sql, params![now()]).map(drop)
    }

    /// Where the file of a picture is.
    pub(crate) fn file(&self, id: &str) -> PathBuf {
        debug_assert!(ids::well_formed(id), "ids are checked where they come in");
        self.folder.join("pictures").join(format!("{id}.png"))
    }

    /// Adds a job that waits; where its client has sent one under this key before, that one's id comes back.
    pub(crate) fn add_job(&self, id: &str, client: &str, key: Option<&str>, order: &Order) -> Result<Option<String>> {
        let mut connection = lock(&self.writing);
        let connection = connection.transaction()?;
        if let Some(key) = key {
            let sql = "SELECT id FROM jobs WHERE client = ?1 AND key = ?2";
            let known = connection.query_row(sql, params![client, key], |row| row.get(0)).optional()?;
            if known.is_some() {
                return Ok(known);
            }
        }
        let request = serde_json::to_string(order).expect("an order is plain data");
        let sql =
            "INSERT INTO jobs (id, client, key, state, request, created_ms) VALUES (?1, ?2, ?3, 'queued', ?4, ?5)";
        connection.execute(sql, params![id, client, key, request, now()])?;
        for begun in order.begin.iter().flat_map(BeginOrder::ids) {
            connection.execute("INSERT INTO begins (job, upload) VALUES (?1, ?2)", params![id, begun])?;
        }
        connection.commit()?;
        Ok(None)
    }

    /// A job is drawn from now on.
    pub(crate) fn begin(&self, id: &str) -> Result<()> {
        let sql = "UPDATE jobs SET state = 'running', begun_ms = ?2 WHERE id = ?1";
        lock(&self.writing).execute(sql, params![id, now()]).map(drop)
    }

    /// What the pictures of a job will not follow.
    pub(crate) fn remark(&self, id: &str, remarks: &[RemarkView]) -> Result<()> {
        let remarks = serde_json::to_string(remarks).expect("remarks are plain data");
        let sql = "INSERT OR REPLACE INTO remarks (job, remarks) VALUES (?1, ?2)";
        lock(&self.writing).execute(sql, params![id, remarks]).map(drop)
    }

    /// A job has ended.
    pub(crate) fn end(&self, id: &str, state: State, error: Option<&str>) -> Result<()> {
        let sql = "UPDATE jobs SET state = ?2, error = ?3, ended_ms = ?4 WHERE id = ?1";
        lock(&self.writing).execute(sql, params![id, state.as_str(), error, now()]).map(drop)
    }

    /// A job with its pictures, and whose it is.
    pub(crate) fn job(&self, id: &str) -> Result<Option<(JobView, String)>> {
        let found = {
            let connection = lock(&self.reading);
            connection.query_row(&format!("{JOB} WHERE id = ?1"), params![id], job_of).optional()?
        };
        let Some((mut job, client)) = found else { return Ok(None) };
        job.pictures = self.pictures_of(id)?;
        Ok(Some((job, client)))
    }

    /// The latest jobs of a client, the newest first.
    pub(crate) fn jobs(&self, client: &str, limit: usize) -> Result<Vec<JobView>> {
        let found = {
            let connection = lock(&self.reading);
            let mut statement =
                connection.prepare(&format!("{JOB} WHERE client = ?1 ORDER BY number DESC LIMIT ?2"))?;
            let rows = statement.query_map(params![client, limit as i64], job_of)?;
            rows.collect::<Result<Vec<_>>>()?
        };
        let with_pictures = |(job, _): (JobView, String)| {
            let pictures = self.pictures_of(&job.id)?;
            Ok(JobView { pictures, ..job })
        };
        found.into_iter().map(with_pictures).collect()
    }

    /// The jobs that wait, in their order, each with whose it is.
    pub(crate) fn waiting(&self) -> Result<Vec<(JobView, String)>> {
        let connection = lock(&self.reading);
        let mut statement = connection.prepare(&format!("{JOB} WHERE state = 'queued' ORDER BY number"))?;
        statement.query_map([], job_of)?.collect()
    }

    fn pictures_of(&self, job: &str) -> Result<Vec<PictureView>> {
        let connection = lock(&self.reading);
        let sql = format!("{PICTURE} WHERE job = ?1 AND deleted_ms IS NULL ORDER BY place");
        let mut statement = connection.prepare(&sql)?;
        statement.query_map(params![job], picture_of)?.collect()
    }

    /// Adds a picture whose file is there.
    pub(crate) fn add_picture(&self, picture: &PictureView) -> Result<()> {
        let row = params![
            picture.id,
            picture.job,
            picture.index as i64,
            picture.prompt,
            picture.seed as i64,
            picture.model,
            picture.until.name(),
            picture.width as i64,
            picture.height as i64,
            serde_json::to_string(&picture.request).expect("an order is plain data"),
            picture.stages.to_string(),
            picture.command,
            picture.seconds,
            picture.created_ms,
        ];
        let sql = "INSERT INTO pictures (id, job, place, prompt, seed, model, until, width, height, request, stages, command, \
                   seconds, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        lock(&self.writing).execute(sql, row).map(drop)
    }

    /// A picture that is not deleted.
    pub(crate) fn picture(&self, id: &str) -> Result<Option<PictureView>> {
        let sql = format!("{PICTURE} WHERE id = ?1 AND deleted_ms IS NULL");
        lock(&self.reading).query_row(&sql, params![id], picture_of).optional()
    }

    /// Pictures of the gallery, the newest first.
    pub(crate) fn gallery(&self, wanted: &Wanted) -> Result<Vec<PictureView>> {
        let words: Vec<String> = wanted.search.split_whitespace().take(16).map(pattern).collect();
        let mut sql = format!("{PICTURE} WHERE deleted_ms IS NULL");
        let mut values: Vec<&dyn rusqlite::ToSql> = Vec::new();
        for word in &words {
            values.push(word);
            sql += &format!(" AND prompt LIKE ?{} ESCAPE '\\'", values.len());
        }
        if let Some(before) = &wanted.before {
            values.push(before);
            sql += &format!(" AND number < (SELECT number FROM pictures WHERE id = ?{})", values.len());
        }
        if wanted.favourites {
            sql += " AND favourite = 1";
        }
        let limit = wanted.limit as i64;
        values.push(&limit);
        sql += &format!(" ORDER BY number DESC LIMIT ?{}", values.len());
        let connection = lock(&self.reading);
        let mut statement = connection.prepare(&sql)?;
        statement.query_map(values.as_slice(), picture_of)?.collect()
    }

    /// Marks a picture; whether there is one.
    pub(crate) fn set_favourite(&self, id: &str, favourite: bool) -> Result<bool> {
        let sql = "UPDATE pictures SET favourite = ?2 WHERE id = ?1 AND deleted_ms IS NULL";
        lock(&self.writing).execute(sql, params![id, favourite]).map(|rows| rows == 1)
    }

    /// Takes a picture out of the gallery, from which it can come back until it is [`Self::purged`]; whether there was one.
    pub(crate) fn delete(&self, id: &str) -> Result<bool> {
        let sql = "UPDATE pictures SET deleted_ms = ?2 WHERE id = ?1 AND deleted_ms IS NULL";
        lock(&self.writing).execute(sql, params![id, now()]).map(|rows| rows == 1)
    }

    /// Brings a deleted picture back; whether it was still there.
    pub(crate) fn restore(&self, id: &str) -> Result<bool> {
        let sql = "UPDATE pictures SET deleted_ms = NULL WHERE id = ?1 AND deleted_ms IS NOT NULL";
        lock(&self.writing).execute(sql, params![id]).map(|rows| rows == 1)
    }

    /// Removes what was deleted longer ago than this, the files first; how many.
    pub(crate) fn purge(&self, older: Duration) -> Result<usize> {
        let before = now() - older.as_millis() as i64;
        let connection = lock(&self.writing);
        let mut statement = connection.prepare("SELECT id FROM pictures WHERE deleted_ms < ?1")?;
        let gone: Vec<String> = statement.query_map(params![before], |row| row.get(0))?.collect::<Result<_>>()?;
        for id in &gone {
            match std::fs::remove_file(self.file(id)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(cause = %e, "a deleted picture could not be removed; it will be tried again");
                }
                _ => drop(connection.execute("DELETE FROM pictures WHERE id = ?1", params![id])?),
            }
        }
        Ok(gone.len())
    }

    /// Whether it can be read.
    pub(crate) fn answers(&self) -> bool {
        lock(&self.reading).query_row("SELECT 1", [], |_| Ok(())).is_ok()
    }
}

/// A word anywhere in a text, for `LIKE`.
fn pattern(word: &str) -> String {
    let mut pattern = "%".to_owned();
    for c in word.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern + "%"
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // a panic elsewhere rolled its transaction back; the connection is as good as before
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreadable(column: usize, cause: impl std::fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, cause.to_string().into())
}

fn job_of(row: &Row<'_>) -> Result<(JobView, String)> {
    let (state, request, remarks): (String, String, Option<String>) = (row.get(1)?, row.get(2)?, row.get(8)?);
    let job = JobView {
        id: row.get(0)?,
        state: State::named(&state).ok_or_else(|| unreadable(1, state))?,
        request: serde_json::from_str(&request).map_err(|e| unreadable(2, e))?,
        error: row.get(3)?,
        created_ms: row.get(4)?,
        begun_ms: row.get(5)?,
        ended_ms: row.get(6)?,
        position: None,
        eta_seconds: None,
        remarks: remarks.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text)).map_err(|e| unreadable(8, e))?,
        pictures: Vec::new(),
    };
    Ok((job, row.get(7)?))
}

fn picture_of(row: &Row<'_>) -> Result<PictureView> {
    let (id, until, request, stages): (String, String, String, String) =
        (row.get(0)?, row.get(6)?, row.get(9)?, row.get(10)?);
    Ok(PictureView {
        url: format!("/api/v1/images/{id}/file"),
        id,
        job: row.get(1)?,
        index: row.get::<_, i64>(2)? as usize,
        prompt: row.get(3)?,
        seed: row.get::<_, i64>(4)? as u64,
        model: row.get(5)?,
        until: until.parse().map_err(|e: Error| unreadable(6, e))?,
        width: row.get::<_, i64>(7)? as usize,
        height: row.get::<_, i64>(8)? as usize,
        request: serde_json::from_str(&request).map_err(|e| unreadable(9, e))?,
        stages: serde_json::from_str(&stages).map_err(|e| unreadable(10, e))?,
        command: row.get(11)?,
        seconds: row.get(12)?,
        created_ms: row.get(13)?,
        favourite: row.get(14)?,
    })
}

#[cfg(test)]
mod tests;
