//! What the database keeps, and in which state it is found after the program was killed.

use serde_json::json;

use super::*;

fn order(prompt: &str) -> Order {
    serde_json::from_value(json!({ "prompt": prompt, "model": "m", "seeds": [1], "until": "base" })).unwrap()
}

fn picture(job: &str, prompt: &str, seed: u64) -> PictureView {
    PictureView {
        id: ids::random(),
        job: job.into(),
        index: 0,
        prompt: prompt.into(),
        seed,
        model: "m".into(),
        until: imagen::cascade::StageName::Base,
        width: 64,
        height: 64,
        request: order(prompt),
        stages: json!({"base": {"steps": 3}}),
        command: format!("imagen sample '{prompt}'"),
        seconds: 0.5,
        created_ms: now(),
        favourite: false,
        url: String::new(),
    }
}

fn found(store: &Store, search: &str) -> Vec<String> {
    let wanted = Wanted { search: search.into(), limit: 60, ..Wanted::default() };
    store.gallery(&wanted).unwrap().into_iter().map(|picture| picture.prompt).collect()
}

#[test]
fn what_was_drawn_when_the_program_was_killed_is_interrupted_and_what_waited_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let [first, second, third] = [(); 3].map(|()| ids::random());
    for id in [&first, &second, &third] {
        assert_eq!(store.add_job(id, "me", None, &order("a cat")).unwrap(), None);
    }
    store.begin(&first).unwrap();
    store.end(&first, State::Done, None).unwrap();
    store.begin(&second).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let states: Vec<State> = [&first, &second, &third].map(|id| store.job(id).unwrap().unwrap().0.state).into();
    assert_eq!(states, [State::Done, State::Interrupted, State::Queued]);
    assert!(store.job(&second).unwrap().unwrap().0.error.unwrap().contains("run it again"));
    let waiting: Vec<String> = store.waiting().unwrap().into_iter().map(|(job, _)| job.id).collect();
    assert_eq!(waiting, [third]);
}

#[test]
fn a_folder_has_one_server_and_a_database_of_another_version_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(Store::open(folder.path()).unwrap_err().to_string().contains("in use"));
    lock(&store.writing).pragma_update(None, "user_version", 9).unwrap();
    drop(store);
    assert!(Store::open(folder.path()).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn the_gallery_finds_words_in_any_order_and_takes_no_character_for_a_pattern() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for (seed, prompt) in
        ["a red apple", "an apple, 100% red", "a_b", "'; DROP TABLE pictures; --", "con mèo đỏ"].iter().enumerate()
    {
        store.add_picture(&picture("j", prompt, seed as u64)).unwrap();
    }
    assert_eq!(found(&store, "red apple"), ["an apple, 100% red", "a red apple"]);
    assert_eq!(found(&store, "APPLE red"), ["an apple, 100% red", "a red apple"]);
    assert_eq!(found(&store, "%"), ["an apple, 100% red"]);
    assert_eq!(found(&store, "a_b"), ["a_b"]);
    assert_eq!(found(&store, "drop"), ["'; DROP TABLE pictures; --"]);
    assert_eq!(found(&store, "mèo"), ["con mèo đỏ"]);
    assert_eq!(found(&store, "' OR 1=1 --").len(), 0);
    assert_eq!(found(&store, "").len(), 5);
}

#[test]
fn the_gallery_goes_on_where_a_page_ended() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (0..7).for_each(|seed| store.add_picture(&picture("j", "a", seed)).unwrap());
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.gallery(&Wanted { before: before.take(), limit: 3, ..Wanted::default() }).unwrap();
        seen.extend(page.iter().map(|picture| picture.seed));
        match page.last() {
            Some(last) if page.len() == 3 => before = Some(last.id.clone()),
            _ => break,
        }
    }
    assert_eq!(seen, [6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_deleted_picture_comes_back_until_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let kept = picture("j", "a cat", u64::MAX >> 11);
    std::fs::write(store.file(&kept.id), b"png").unwrap();
    store.add_picture(&kept).unwrap();
    assert!(store.set_favourite(&kept.id, true).unwrap());
    assert!(store.delete(&kept.id).unwrap() && !store.delete(&kept.id).unwrap());
    assert!(store.picture(&kept.id).unwrap().is_none() && found(&store, "").is_empty());
    assert_eq!(store.purge(Duration::from_secs(60)).unwrap(), 0);
    assert!(store.restore(&kept.id).unwrap());
    let back = store.picture(&kept.id).unwrap().unwrap();
    assert_eq!((back.seed, back.favourite, back.stages), (kept.seed, true, kept.stages));
    assert!(store.delete(&kept.id).unwrap());
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(store.purge(Duration::ZERO).unwrap(), 1);
    assert!(!store.restore(&kept.id).unwrap() && !store.file(&kept.id).exists());
}

#[test]
fn a_key_is_one_job_of_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let [first, second, other] = [(); 3].map(|()| ids::random());
    assert_eq!(store.add_job(&first, "me", Some("k"), &order("a")).unwrap(), None);
    assert_eq!(store.add_job(&second, "me", Some("k"), &order("a")).unwrap(), Some(first.clone()));
    assert_eq!(store.add_job(&other, "you", Some("k"), &order("a")).unwrap(), None);
    assert_eq!(store.jobs("me", 9).unwrap().len(), 1);
}

#[test]
fn a_database_that_another_program_holds_is_busy_and_then_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut other = Connection::open(folder.path().join("studio.sqlite")).unwrap();
    let held = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let refused = store.add_job(&ids::random(), "me", None, &order("a")).unwrap_err();
    let problem = crate::problem::Problem::from(refused);
    assert_eq!((problem.status.as_u16(), problem.code, problem.retry_after), (503, "database_busy", Some(1)));
    assert!(store.jobs("me", 9).unwrap().is_empty(), "who reads does not wait");
    drop(held);
    store.add_job(&ids::random(), "me", None, &order("a")).unwrap();
}

#[test]
fn a_folder_of_the_first_version_is_brought_to_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let id = ids::random();
    let store = Store::open(folder.path()).unwrap();
    store.add_job(&id, "me", None, &order("a cat")).unwrap();
    lock(&store.writing).execute_batch("DROP TABLE uploads; DROP TABLE begins; PRAGMA user_version = 1").unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.waiting().unwrap()[0].0.id, id);
    let picture = imagen::image::Picture::filled(4, 4, [1, 2, 3]);
    store.keep_upload(&picture, 1 << 20).unwrap();
}

#[test]
fn what_was_sent_is_kept_for_as_long_as_something_that_was_drawn_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let sent = |value: u8| store.keep_upload(&imagen::image::Picture::filled(4, 4, [value; 3]), 1 << 20).unwrap().id;
    let [waits, drawn, unused] = [1, 2, 3].map(sent);
    let begins =
        |id: &str| Order { begin: Some(BeginOrder { picture: id.into(), ..BeginOrder::default() }), ..order("a") };
    let [first, second] = [(); 2].map(|()| ids::random());
    store.add_job(&first, "me", None, &begins(&waits)).unwrap();
    store.add_job(&second, "me", None, &begins(&drawn)).unwrap();
    store.add_picture(&picture(&second, "a", 1)).unwrap();
    store.end(&second, State::Done, None).unwrap();
    let stray = folder.path().join("uploads").join(format!("{}.png", ids::random()));
    std::fs::write(&stray, b"left by a kill").unwrap();
    assert_eq!(store.purge_uploads(Duration::from_secs(3600)).unwrap(), 0, "all of them came just now");
    assert!(!stray.exists());
    assert_eq!(store.purge_uploads(Duration::ZERO).unwrap(), 1);
    let there = |id: &str| store.size_of(id).unwrap().is_some() && store.file_of(id).unwrap().unwrap().is_file();
    assert_eq!([there(&waits), there(&drawn)], [true, true]);
    assert_eq!(store.size_of(&unused).unwrap(), None);
    store.end(&first, State::Cancelled, None).unwrap();
    assert_eq!(store.purge_uploads(Duration::ZERO).unwrap(), 1);
}

#[test]
fn a_disk_that_is_full_is_said_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let kept = ids::random();
    store.add_job(&kept, "me", None, &order("a")).unwrap();
    // no page more: what SQLite meets on a disk without room
    let pages: i64 = lock(&store.writing).pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit =
        |pages: i64| lock(&store.writing).pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    limit(pages);
    let long = order(&"a very long prompt ".repeat(100));
    let refused = (0..64).find_map(|_| store.add_job(&ids::random(), "me", None, &long).err()).expect("a full disk");
    let problem = crate::problem::Problem::from(refused);
    assert_eq!((problem.status.as_u16(), problem.code), (507, "disk_full"));
    assert!(problem.message.contains("make room"), "{}", problem.message);
    assert!(store.job(&kept).unwrap().is_some(), "what is there can be read");
    limit(1 << 20);
    store.add_job(&ids::random(), "me", None, &long).unwrap();
}
