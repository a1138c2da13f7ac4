//! Pictures that were sent to begin with. Each is kept once, however often it is sent, and for as long as something that was drawn
//! from it is kept; what nothing was drawn from goes after a day, or earlier where room is needed.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use imagen::Error;
use imagen::image::{Picture, PngText, png};

use super::{Result, Store, lock, now};
use crate::ids;
use crate::problem::{Problem, unkept};

/// Whether nothing is left that began with an upload: neither a picture, nor a job that may still be drawn.
const UNUSED: &str = "NOT EXISTS (SELECT 1 FROM begins WHERE begins.upload = uploads.id AND (
    EXISTS (SELECT 1 FROM pictures WHERE pictures.job = begins.job)
    OR EXISTS (SELECT 1 FROM jobs WHERE jobs.id = begins.job AND jobs.state IN ('queued', 'running', 'interrupted'))))";

/// A picture that is kept.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Where it is, below this server.
    pub(crate) url: String,
}

impl Upload {
    fn new(id: String, [width, height]: [usize; 2]) -> Self {
        Self { url: format!("/api/v1/uploads/{id}/file"), id, width, height }
    }
}

impl Store {
    /// Keeps a picture, without any words that its file held, in at most so many bytes of all of them.
    pub(crate) fn keep_upload(&self, picture: &Picture, most: u64) -> std::result::Result<Upload, Problem> {
        let size = [picture.width(), picture.height()];
        let bytes = png::encode(picture, &PngText::default())?;
        let digest = ids::tag_of(&bytes);
        if let Some(id) = self.known_upload(&digest)? {
            return Ok(Upload::new(id, size));
        }
        let length = bytes.len() as u64;
        while self.uploaded()? + length > most {
            if self.drop_uploads(now(), 1)? == 0 {
                let message = "as many pictures are kept as may; delete pictures that were drawn from others, or send a smaller one";
                let status = axum::http::StatusCode::INSUFFICIENT_STORAGE;
                return Err(Problem::new(status, "uploads_full", message));
            }
        }
        let id = ids::random();
        let file = self.upload_file(&id);
        let written = imagen::files::write_whole(&file, |writer| writer.write_all(&bytes));
        written.map_err(|e| unkept(&Error::io("write", &file, e)))?;
        let sql = "INSERT INTO uploads (id, digest, width, height, bytes, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                   ON CONFLICT (digest) DO NOTHING";
        let row = params![id, digest, size[0] as i64, size[1] as i64, length as i64, now()];
        if lock(&self.writing).execute(sql, row)? == 0 {
            // another request sent the very same picture meanwhile
            let _ = std::fs::remove_file(&file);
            let known = self.known_upload(&digest)?.ok_or_else(|| Problem::not_found("picture"))?;
            return Ok(Upload::new(known, size));
        }
        Ok(Upload::new(id, size))
    }

    fn known_upload(&self, digest: &str) -> Result<Option<String>> {
        // it is as if it were sent now
        let sql = "UPDATE uploads SET created_ms = ?2 WHERE digest = ?1 RETURNING id";
        lock(&self.writing).query_row(sql, params![digest, now()], |row| row.get(0)).optional()
    }

    /// Bytes of all of them.
    fn uploaded(&self) -> Result<u64> {
        let sum = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        Ok(lock(&self.reading).query_row("SELECT COALESCE(SUM(bytes), 0) FROM uploads", [], sum)?.max(0) as u64)
    }

    fn upload_file(&self, id: &str) -> PathBuf {
        debug_assert!(ids::well_formed(id), "ids are checked where they come in");
        self.folder.join("uploads").join(format!("{id}.png"))
    }

    fn upload(&self, id: &str) -> Result<Option<[usize; 2]>> {
        let size = |row: &rusqlite::Row<'_>| Ok([0, 1].map(|k| row.get::<_, i64>(k).unwrap_or(0) as usize));
        let sql = "SELECT width, height FROM uploads WHERE id = ?1";
        lock(&self.reading).query_row(sql, params![id], size).optional()
    }

    /// Width and height of a picture that may be begun with: one that was sent, or one of the gallery.
    pub(crate) fn size_of(&self, id: &str) -> Result<Option<[usize; 2]>> {
        match self.upload(id)? {
            Some(size) => Ok(Some(size)),
            None => Ok(self.picture(id)?.map(|picture| [picture.width, picture.height])),
        }
    }

    /// Its file. A picture of the gallery that was deleted meanwhile is there until it is purged.
    pub(crate) fn file_of(&self, id: &str) -> Result<Option<PathBuf>> {
        match self.upload(id)? {
            Some(_) => Ok(Some(self.upload_file(id))),
            None => Ok(Some(self.file(id)).filter(|file| file.is_file())),
        }
    }

    /// Removes what was sent longer ago than this and is not used, and files that a kill left without a row; how many.
    pub(crate) fn purge_uploads(&self, older: Duration) -> Result<usize> {
        for entry in std::fs::read_dir(self.folder.join("uploads")).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".png")).filter(|id| ids::well_formed(id));
            if let Some(id) = id
                && self.upload(id)?.is_none()
            {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.drop_uploads(now() - older.as_millis() as i64, i64::MAX)
    }

    fn drop_uploads(&self, before: i64, most: i64) -> Result<usize> {
        let connection = lock(&self.writing);
        let sql = format!("SELECT id FROM uploads WHERE created_ms <= ?1 AND {UNUSED} ORDER BY created_ms LIMIT ?2");
        let mut statement = connection.prepare(&sql)?;
        let gone: Vec<String> = statement.query_map(params![before, most], |row| row.get(0))?.collect::<Result<_>>()?;
        for id in &gone {
            connection.execute("DELETE FROM uploads WHERE id = ?1", params![id])?;
            connection.execute("DELETE FROM begins WHERE upload = ?1", params![id])?;
            // a file without a row is nobody's
            let _ = std::fs::remove_file(self.upload_file(id));
        }
        Ok(gone.len())
    }
}
