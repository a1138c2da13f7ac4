//! Votes in SQLite: `votes.sqlite` in the study's folder.
//!
//! All answers of a page are one transaction, which is on disk (write-ahead log, synced) before the rater sees the next page.
//! Nothing is ever changed or deleted: a corrected answer is a later row. Several programs may have the file open.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

use imagen::eval::human::{Answer, Mode, Question, Trial, Vote};

use crate::failure::{Exit, Failure, Result};

/// The file's name in the study's folder.
pub(super) const FILE: &str = "votes.sqlite";
/// The form of the table; a file of another is not read.
const VERSION: i64 = 1;
/// How long one program waits for another's transaction.
const PATIENCE: Duration = Duration::from_secs(10);

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS votes (
    number INTEGER PRIMARY KEY,
    rater TEXT NOT NULL,
    mode TEXT NOT NULL,
    trial TEXT NOT NULL,
    shown TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    spent_ms INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS votes_of_rater ON votes (rater, mode);
";

/// A vote and when it was given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ballot {
    pub(super) vote: Vote,
    /// Milliseconds since 1970.
    pub(super) at_ms: i64,
    /// How long the page was looked at, as far as the browser said.
    pub(super) spent_ms: Option<i64>,
}

/// The answers of a rater by trial.
pub(super) type Answered = BTreeMap<String, BTreeMap<Question, Answer>>;

/// An open file of votes.
#[derive(Debug)]
pub(super) struct Store {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Store {
    /// Opens a study's votes; the file is made where there is none.
    pub(super) fn open(study: &Path) -> Result<Self> {
        Self::connect(study, OpenFlags::default())
    }

    /// Opens votes that are there.
    ///
    /// # Errors
    /// `Data` where nobody has voted.
    pub(super) fn open_existing(study: &Path) -> Result<Self> {
        if !study.join(FILE).exists() {
            let failure = Failure::new(Exit::Data, format_args!("{} holds no votes yet", study.display()));
            return Err(failure.hint("let raters vote first: imagen eval human serve STUDY"));
        }
        Self::connect(study, OpenFlags::default() - OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn connect(study: &Path, flags: OpenFlags) -> Result<Self> {
        let path = study.join(FILE);
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch(TABLE)?;
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            Ok((connection, if version == 0 { VERSION } else { version }))
        };
        match open() {
            Ok((connection, VERSION)) => Ok(Self { connection: Mutex::new(connection), path }),
            Ok((_, version)) => {
                let message = format!("{} has version {version}; this program reads {VERSION}", path.display());
                Err(Failure::new(Exit::Data, message))
            }
            Err(e) => Err(failed("open", &path, &e)),
        }
    }

    /// Adds all answers of a page, or none. They are on disk when this returns.
    pub(super) fn add(&self, ballots: &[Ballot]) -> Result<()> {
        let mut connection = self.lock();
        let mut add = || {
            let transaction = connection.transaction()?;
            for Ballot { vote, at_ms, spent_ms } in ballots {
                let shown = serde_json::to_string(&vote.trial).expect("a trial is plain data");
                let row = params![
                    vote.rater,
                    vote.trial.mode.name(),
                    vote.trial.id(),
                    shown,
                    vote.question.name(),
                    vote.answer.name(),
                    at_ms,
                    spent_ms
                ];
                transaction.execute(
                    "INSERT INTO votes (rater, mode, trial, shown, question, answer, at_ms, spent_ms) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    row,
                )?;
            }
            transaction.commit()
        };
        add().map_err(|e| failed("write", &self.path, &e))
    }

    /// What a rater has answered in a mode; the latest answers.
    pub(super) fn answered(&self, rater: &str, mode: Mode) -> Result<Answered> {
        let connection = self.lock();
        let read = || {
            let mut statement = connection
                .prepare("SELECT trial, question, answer FROM votes WHERE rater = ?1 AND mode = ?2 ORDER BY number")?;
            let rows = statement.query_map(params![rater, mode.name()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut answered = Answered::new();
        for (trial, question, answer) in read().map_err(|e| failed("read", &self.path, &e))? {
            let known = question.parse::<Question>().and_then(|q| Ok((q, answer.parse::<Answer>()?)));
            let (question, answer) = known.map_err(|e| self.damaged(&e))?;
            answered.entry(trial).or_default().insert(question, answer);
        }
        Ok(answered)
    }

    /// Every vote in the order in which it came, corrected ones too.
    pub(super) fn ballots(&self) -> Result<Vec<Ballot>> {
        let connection = self.lock();
        let read = || {
            let mut statement = connection
                .prepare("SELECT rater, shown, question, answer, at_ms, spent_ms FROM votes ORDER BY number")?;
            let rows = statement.query_map([], |row| {
                let texts: [String; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
                Ok((texts, row.get::<_, i64>(4)?, row.get::<_, Option<i64>>(5)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = read().map_err(|e| failed("read", &self.path, &e))?;
        let ballot = |([rater, shown, question, answer], at_ms, spent_ms): ([String; 4], i64, Option<i64>)| {
            let trial: Trial = serde_json::from_str(&shown).map_err(|e| self.damaged(&e))?;
            let question = question.parse().map_err(|e: String| self.damaged(&e))?;
            let answer = answer.parse().map_err(|e: String| self.damaged(&e))?;
            Ok(Ballot { vote: Vote { rater, trial, question, answer }, at_ms, spent_ms })
        };
        rows.into_iter().map(ballot).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // a panic elsewhere rolled its transaction back; the connection is as good as before
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self, cause: &dyn fmt::Display) -> Failure {
        Failure::new(Exit::Data, format_args!("{} holds a vote that cannot be read: {cause}", self.path.display()))
    }
}

fn failed(verb: &str, path: &Path, cause: &rusqlite::Error) -> Failure {
    Failure::new(Exit::Runtime, format_args!("cannot {verb} {}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use imagen::eval::human::Panel;

    fn ballot(rater: &str, answer: Answer) -> Ballot {
        let panel = |set: &str| Panel { set: set.into(), prompt: 1, spoilt: false };
        let panels = vec![panel("a"), panel("b")];
        let trial = Trial { mode: Mode::DrawBench, prompt: 1, panels, control: None };
        let vote = Vote { rater: rater.into(), trial, question: Question::Fidelity, answer };
        Ballot { vote, at_ms: 5, spent_ms: Some(1200) }
    }

    #[test]
    fn votes_come_back_as_they_were_given_and_the_latest_answer_is_a_raters_own() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Store::open_existing(folder.path()).unwrap_err().to_string().contains("no votes yet"));
        let store = Store::open(folder.path()).unwrap();
        let given = [ballot("anna", Answer::Left), ballot("ben", Answer::Indifferent), ballot("anna", Answer::Right)];
        store.add(&given[..2]).unwrap();
        store.add(&given[2..]).unwrap();
        let other = Store::open_existing(folder.path()).unwrap();
        assert_eq!(other.ballots().unwrap(), given);
        let answered = other.answered("anna", Mode::DrawBench).unwrap();
        assert_eq!(answered[&given[0].vote.trial.id()][&Question::Fidelity], Answer::Right);
        assert!(other.answered("anna", Mode::Alignment).unwrap().is_empty());
    }

    #[test]
    fn raters_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stores = [Store::open(folder.path()).unwrap(), Store::open(folder.path()).unwrap()];
        std::thread::scope(|scope| {
            for rater in 0..8 {
                let store = &stores[rater % 2];
                scope.spawn(move || {
                    (0..20).for_each(|_| store.add(&[ballot(&format!("r{rater}"), Answer::Left)]).unwrap());
                });
            }
        });
        assert_eq!(stores[0].ballots().unwrap().len(), 160);
    }

    #[test]
    fn a_file_of_another_version_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.lock().pragma_update(None, "user_version", 9).unwrap();
        drop(store);
        assert!(Store::open(folder.path()).unwrap_err().to_string().contains("version 9"));
    }
}
