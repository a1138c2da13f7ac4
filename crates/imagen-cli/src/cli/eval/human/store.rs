//! Votes in SQLite: `votes.sqlite` in the study's folder.
//!
//! All answers of a page are one transaction, which is on disk (write-ahead log, synced) before the rater sees the next page.
//! Nothing is ever changed or deleted: a corrected answer is a later row. Several programs may have the file open. It is the
//! study's own file, not a link to another, and belongs to the prompts that it was begun with: what was asked under a number
//! must be what is asked under it now.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use sha2::{Digest, Sha256};

use imagen::eval::human::{Answer, Mode, Prompt, Question, Trial, Vote};

use crate::failure::{Exit, Failure, Result};
use crate::output::shell;

/// The file's name in the study's folder.
pub(super) const FILE: &str = "votes.sqlite";
/// The form of the table; a file of another is not read.
const VERSION: i64 = 1;
/// How long one program waits for another's transaction; whoever waits is told to try again after it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Votes of one study: a hundred raters of a thousand pages with two questions, five times over.
const MOST: i64 = 1_000_000;

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

/// What the votes are of; files of older programs get it when they are next opened.
const ABOUT: &str = "CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;";

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
    /// Only one transaction writes at a time; who reads does not wait for it.
    writing: Mutex<Connection>,
    reading: Mutex<Connection>,
    path: PathBuf,
    /// The file that was opened.
    file: Identity,
}

impl Store {
    /// Opens the votes of a study with these prompts; the file is made where there is none.
    ///
    /// # Errors
    /// `Data` where the votes are of other prompts, of another version, or no file of the study's own.
    pub(super) fn open(study: &Path, prompts: &[Prompt]) -> Result<Self> {
        let store = Self::connect(study, OpenFlags::default())?;
        store.check_prompts(prompts)?;
        Ok(store)
    }

    /// Opens votes that are there, of a study with these prompts.
    ///
    /// # Errors
    /// `Data` where nobody has voted; those of [`Self::open`].
    pub(super) fn open_existing(study: &Path, prompts: &[Prompt]) -> Result<Self> {
        if !study.join(FILE).exists() {
            let failure = Failure::new(Exit::Data, format_args!("{} holds no votes yet", study.display()));
            let study = shell::quote(&study.display().to_string());
            return Err(failure.hint(format_args!("let raters vote first: imagen eval human serve {study}")));
        }
        let store = Self::connect(study, OpenFlags::default() - OpenFlags::SQLITE_OPEN_CREATE)?;
        store.check_prompts(prompts)?;
        Ok(store)
    }

    fn connect(study: &Path, flags: OpenFlags) -> Result<Self> {
        let path = study.join(FILE);
        for beside in ["", "-wal", "-shm"] {
            refuse_foreign(&study.join(format!("{FILE}{beside}")))?;
        }
        let connect = || {
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(PATIENCE)?;
            Ok::<_, rusqlite::Error>(connection)
        };
        let open = || -> rusqlite::Result<(Connection, i64)> {
            let connection = connect()?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "full")?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if version == 0 {
                connection.execute_batch(TABLE)?;
                connection.execute_batch(ABOUT)?;
                connection.pragma_update(None, "user_version", VERSION)?;
            }
            Ok((connection, if version == 0 { VERSION } else { version }))
        };
        match open() {
            Ok((connection, VERSION)) => {
                let reading = connect().map_err(|e| failed("open", &path, &e))?;
                let file = Identity::of(&path).map_err(|e| Failure::io("read", &path, &e))?;
                Ok(Self { writing: Mutex::new(connection), reading: Mutex::new(reading), path, file })
            }
            Ok((_, version)) => {
                let message = format!("{} has version {version}; this program reads {VERSION}", path.display());
                Err(Failure::new(Exit::Data, message))
            }
            Err(e) => Err(failed("open", &path, &e)),
        }
    }

    /// Holds the votes to the prompts that they were given for.
    fn check_prompts(&self, prompts: &[Prompt]) -> Result<()> {
        let mut hash = Sha256::new();
        for prompt in prompts {
            hash.update(format!("{}\0{}\0", prompt.text, prompt.category));
        }
        let digest: String = hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let connection = lock(&self.writing);
        let found = || -> rusqlite::Result<String> {
            connection.execute_batch(ABOUT)?;
            connection.execute("INSERT OR IGNORE INTO about (key, value) VALUES ('prompts', ?1)", params![digest])?;
            connection.query_row("SELECT value FROM about WHERE key = 'prompts'", [], |row| row.get(0))
        };
        if found().map_err(|e| failed("read", &self.path, &e))? == digest {
            return Ok(());
        }
        let message =
            format!("the study's prompts are not those that the votes in {} were given for", self.path.display());
        Err(Failure::new(Exit::Data, message).hint("put the old study.json back, or begin another study"))
    }

    /// Adds all answers of a page, or none. They are on disk, in the file that is there, when this returns.
    ///
    /// # Errors
    /// `Runtime` where the file was removed or replaced meanwhile, or another program writes for too long; `Data` where there
    /// are as many votes as a study may have.
    pub(super) fn add(&self, ballots: &[Ballot]) -> Result<()> {
        let mut connection = lock(&self.writing);
        let there = || Identity::of(&self.path).is_ok_and(|now| now == self.file);
        let gone = || Failure::new(Exit::Runtime, format_args!("{} is gone or was replaced", self.path.display()));
        if !there() {
            return Err(gone());
        }
        let last = connection.query_row("SELECT max(number) FROM votes", [], |row| row.get::<_, Option<i64>>(0));
        if last.map_err(|e| failed("read", &self.path, &e))? >= Some(MOST) {
            let message = format!("{} holds {MOST} votes, the most of a study", self.path.display());
            return Err(Failure::new(Exit::Data, message));
        }
        let mut add = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
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
        add().map_err(|e| failed("write", &self.path, &e))?;
        // what was written into a file that nobody will find again is not kept
        if there() { Ok(()) } else { Err(gone()) }
    }

    /// How many answers a rater has given in a mode, corrected ones too.
    pub(super) fn count(&self, rater: &str, mode: Mode) -> Result<u64> {
        let sql = "SELECT count(*) FROM votes WHERE rater = ?1 AND mode = ?2";
        let count = lock(&self.reading).query_row(sql, params![rater, mode.name()], |row| row.get::<_, i64>(0));
        count.map(|count| count as u64).map_err(|e| failed("read", &self.path, &e))
    }

    /// What a rater has answered in a mode; the latest answers.
    pub(super) fn answered(&self, rater: &str, mode: Mode) -> Result<Answered> {
        let connection = lock(&self.reading);
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
        let connection = lock(&self.reading);
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
            let question = question.parse().map_err(|e: imagen::Error| self.damaged(&e))?;
            let answer = answer.parse().map_err(|e: imagen::Error| self.damaged(&e))?;
            Ok(Ballot { vote: Vote { rater, trial, question, answer }, at_ms, spent_ms })
        };
        rows.into_iter().map(ballot).collect()
    }

    fn damaged(&self, cause: &dyn fmt::Display) -> Failure {
        Failure::new(Exit::Data, format_args!("{} holds a vote that cannot be read: {cause}", self.path.display()))
    }
}

/// Which file a path leads to, as far as the system tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(path: &Path) -> std::io::Result<Self> {
        let about = std::fs::symlink_metadata(path)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Ok(Self(about.dev(), about.ino()))
        }
        #[cfg(not(unix))]
        Ok(Self(0, u64::from(about.is_file())))
    }
}

/// Refuses what is there and is no file of its own: a link leads to somebody else's, a pipe never answers.
fn refuse_foreign(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => {
            let what = if about.is_symlink() { "a link" } else { "no regular file" };
            let failure = Failure::new(Exit::Data, format_args!("{} is {what}", path.display()));
            Err(failure.hint("votes are kept in a file of the study's own: move the file here, or delete this"))
        }
        _ => Ok(()),
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // a panic elsewhere rolled its transaction back; the connection is as good as before
    connection.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn prompts() -> Vec<Prompt> {
        ["a cat", "a dog"].map(|text| Prompt { text: text.into(), category: "animals".into() }).to_vec()
    }

    #[test]
    fn votes_belong_to_the_prompts_that_they_were_given_for() {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(folder.path(), &prompts()).unwrap());
        drop(Store::open(folder.path(), &prompts()).unwrap());
        let mut turned = prompts();
        turned.reverse();
        let refused = Store::open(folder.path(), &turned).unwrap_err().to_string();
        assert!(refused.contains("the study's prompts are not those"), "{refused}");
    }

    #[test]
    #[cfg(unix)]
    fn a_link_is_not_followed_and_a_file_that_went_away_takes_no_vote() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(Store::open(other.path(), &prompts()).unwrap());
        std::os::unix::fs::symlink(other.path().join(FILE), folder.path().join(FILE)).unwrap();
        let refused = Store::open(folder.path(), &prompts()).unwrap_err().to_string();
        assert!(refused.contains("votes.sqlite is a link"), "{refused}");

        let store = Store::open(other.path(), &prompts()).unwrap();
        store.add(&[ballot("anna", Answer::Left)]).unwrap();
        std::fs::rename(other.path().join(FILE), other.path().join("moved")).unwrap();
        let refused = store.add(&[ballot("anna", Answer::Left)]).unwrap_err().to_string();
        assert!(refused.contains("is gone or was replaced"), "{refused}");
    }

    #[test]
    fn who_reads_does_not_wait_for_who_writes_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &prompts()).unwrap();
        store.add(&[ballot("anna", Answer::Left)]).unwrap();
        let mut other = Connection::open(folder.path().join(FILE)).unwrap();
        let held = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| store.add(&[ballot("ben", Answer::Left)]));
            let begun = std::time::Instant::now();
            assert_eq!(store.answered("anna", Mode::DrawBench).unwrap().len(), 1);
            assert_eq!(store.count("anna", Mode::DrawBench).unwrap(), 1);
            assert!(begun.elapsed() < PATIENCE);
            assert!(writing.join().unwrap().unwrap_err().to_string().contains("locked"));
        });
        drop(held);
        store.add(&[ballot("ben", Answer::Left)]).unwrap();
    }

    #[test]
    fn votes_come_back_as_they_were_given_and_the_latest_answer_is_a_raters_own() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Store::open_existing(folder.path(), &prompts()).unwrap_err().to_string().contains("no votes yet"));
        let store = Store::open(folder.path(), &prompts()).unwrap();
        let given = [ballot("anna", Answer::Left), ballot("ben", Answer::Indifferent), ballot("anna", Answer::Right)];
        store.add(&given[..2]).unwrap();
        store.add(&given[2..]).unwrap();
        let other = Store::open_existing(folder.path(), &prompts()).unwrap();
        assert_eq!(other.ballots().unwrap(), given);
        let answered = other.answered("anna", Mode::DrawBench).unwrap();
        assert_eq!(answered[&given[0].vote.trial.id()][&Question::Fidelity], Answer::Right);
        assert!(other.answered("anna", Mode::Alignment).unwrap().is_empty());
    }

    #[test]
    fn raters_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let stores = [Store::open(folder.path(), &prompts()).unwrap(), Store::open(folder.path(), &prompts()).unwrap()];
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
        let store = Store::open(folder.path(), &prompts()).unwrap();
        lock(&store.writing).pragma_update(None, "user_version", 9).unwrap();
        drop(store);
        assert!(Store::open(folder.path(), &prompts()).unwrap_err().to_string().contains("version 9"));
    }
}
