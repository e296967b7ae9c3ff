//! The contract of the stores of chunks: what was put is there, what is needed stays, what is bad is not believed.

use std::time::{Duration, SystemTime};

use ::image::{Error, ErrorKind};
use chunks::store::{
    Chunk, DEFAULT_LEVEL, Form, Length, Packer, PruneStore, Removed, Stored, Unpacker, WriteStore,
};
use chunks::{Algorithm, ChunkId};

use super::{Suite, must, together, try_rules};

/// What the suite has to be told about a store.
pub struct StoreRules<'a, S> {
    /// Another user of the same store, who puts chunks in that form.
    pub another: &'a dyn Fn(&S, Form) -> S,
    /// Puts these bytes where the store keeps that chunk, as a broken disk or a power cut would.
    pub spoil: &'a dyn Fn(&S, &ChunkId, &[u8]),
}

/// Checks that what `make` makes, empty, is a [`PruneStore`], and all that stands below it.
///
/// # Panics
///
/// If a rule is broken; the message names each.
pub fn check_store<S: PruneStore>(make: impl Fn() -> S, rules: &StoreRules<'_, S>) {
    let mut suite = Suite::new("PruneStore");
    let mut bench = Bench { make: &make, rules };
    try_rules!(suite, bench:
        what_was_put_and_flushed_is_fetched_and_is_what_it_was,
        what_is_absent_is_no_error,
        a_chunk_put_twice_is_there_once,
        a_bad_chunk_stays_until_somebody_says_that_it_is_bad,
        an_empty_chunk_is_not_reused_and_a_put_repairs_it,
        chunks_of_either_form_are_read_and_reused,
        a_chunk_in_another_form_is_refused,
        a_list_names_each_chunk_once,
        a_list_ends_with_the_error_of_who_visits,
        a_remove_takes_only_what_was_not_used_since,
        what_a_living_writer_put_or_reused_is_kept,
        what_was_removed_can_be_put_again,
        many_are_removed_as_one_is,
        many_threads_put_the_same_and_different_chunks,
        what_is_in_use_survives_somebody_who_removes_all_the_time,
    );
    suite.finish();
}

struct Bench<'a, S> {
    make: &'a dyn Fn() -> S,
    rules: &'a StoreRules<'a, S>,
}

impl<S: PruneStore> Bench<'_, S> {
    /// A store with chunks of these plain bytes, flushed by somebody who works no more, seen by somebody new.
    fn with(&self, plains: &[Vec<u8>]) -> S {
        let writer = (self.make)();
        for plain in plains {
            put(&writer, plain, false);
        }
        flush(&writer);
        let store = self.another(&writer);
        drop(writer);
        store
    }

    fn another(&self, store: &S) -> S {
        (self.rules.another)(store, store.form())
    }
}

/// Bytes of that length which differ with `seed`: half of them can be compressed.
fn plain(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|at| if at % 2048 < 1024 { rng.u8(..) } else { seed as u8 }).collect()
}

fn plains(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(|seed| plain(seed, 2000 + seed as usize)).collect()
}

fn id_of(plain: &[u8]) -> ChunkId {
    ChunkId::of(Algorithm::Sha512_256, plain)
}

fn put(store: &dyn WriteStore, plain: &Vec<u8>, replace: bool) {
    let id = id_of(plain);
    let mut packer = must(Packer::new(store.form(), DEFAULT_LEVEL), || "no packer".into());
    let sealed = must(packer.seal(&id, plain), || format!("cannot pack {id}"));
    must(store.put(&sealed, replace), || format!("cannot put {id}"));
}

fn flush(store: &dyn WriteStore) {
    must(store.flush(), || "cannot flush".into());
}

fn reuse(store: &dyn WriteStore, id: &ChunkId) -> bool {
    must(store.reuse(id), || format!("cannot ask to reuse {id}"))
}

fn has<S: PruneStore>(store: &S, id: &ChunkId) -> bool {
    must(store.has(id), || format!("cannot ask for {id}"))
}

/// What is fetched, unpacked and verified; `None` if it is not there.
fn fetch<S: PruneStore>(store: &S, id: &ChunkId) -> Option<::image::Result<Chunk>> {
    let packed = must(store.fetch(id), || format!("cannot fetch {id}"))?;
    let plain = Unpacker::default().unpack(packed, Length::UNKNOWN);
    Some(plain.and_then(|plain| plain.verify(id, Algorithm::Sha512_256)))
}

#[track_caller]
fn assert_holds<S: PruneStore>(store: &S, plain: &[u8]) {
    let id = id_of(plain);
    let found = fetch(store, &id).unwrap_or_else(|| panic!("{id} is not there"));
    let chunk = must(found, || format!("{id} is bad"));
    assert!(chunk.bytes() == plain, "{id} has other bytes");
    assert!(has(store, &id), "{id} can be fetched, but is said not to be there");
}

#[track_caller]
fn assert_lacks<S: PruneStore>(store: &S, id: &ChunkId) {
    assert!(fetch(store, id).is_none(), "{id} is fetched and should not be there");
    assert!(!has(store, id), "{id} is said to be there");
}

fn list<S: PruneStore>(store: &S) -> Vec<Stored> {
    let mut all = Vec::new();
    let listed = store.list(&mut |stored| {
        all.push(stored);
        Ok(())
    });
    must(listed, || "cannot list".into());
    all.sort_by_key(|stored| stored.id);
    all
}

fn remove<S: PruneStore>(store: &S, id: &ChunkId, unused_since: SystemTime) -> Removed {
    must(store.remove(id, unused_since), || format!("cannot remove {id}"))
}

/// Younger than everything.
fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

fn what_was_put_and_flushed_is_fetched_and_is_what_it_was<S: PruneStore>(bench: &mut Bench<S>) {
    let store = (bench.make)();
    let all = [1, 2, 4096, 65_536, 1_000_001, 8 << 20].map(|len| plain(len as u64, len));
    for plain in &all {
        put(&store, plain, false);
    }
    flush(&store);
    let another = bench.another(&store);
    for plain in &all {
        assert_holds(&store, plain);
        assert_holds(&another, plain);
    }
}

fn what_is_absent_is_no_error<S: PruneStore>(bench: &mut Bench<S>) {
    let store = bench.with(&plains(0..1));
    let id = id_of(b"absent");
    assert_lacks(&store, &id);
    assert!(!reuse(&store, &id), "what is absent is to be put");
    assert_eq!(remove(&store, &id, tomorrow()), Removed::Absent);
}

fn a_chunk_put_twice_is_there_once<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..1);
    let store = (bench.make)();
    for _ in 0..2 {
        put(&store, &all[0], false);
        put(&store, &all[0], false);
        flush(&store);
    }
    put(&store, &all[0], true);
    put(&store, &all[0], true);
    flush(&store);
    assert_holds(&store, &all[0]);
    assert_eq!(list(&store).len(), 1);
}

fn a_bad_chunk_stays_until_somebody_says_that_it_is_bad<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..1);
    let store = bench.with(&all);
    let id = id_of(&all[0]);
    (bench.rules.spoil)(&store, &id, b"bad bytes");
    put(&store, &all[0], false);
    flush(&store);
    let found = fetch(&store, &id).expect("it is there, though bad");
    let kind = found.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Damaged), "bad bytes were believed, or replaced unasked");
    put(&store, &all[0], true);
    flush(&store);
    assert_holds(&store, &all[0]);
}

fn an_empty_chunk_is_not_reused_and_a_put_repairs_it<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..1);
    let store = bench.with(&all);
    let id = id_of(&all[0]);
    (bench.rules.spoil)(&store, &id, b"");
    assert!(!reuse(&store, &id), "an empty chunk is reused");
    put(&store, &all[0], false);
    flush(&store);
    assert_holds(&store, &all[0]);
}

fn chunks_of_either_form_are_read_and_reused<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..2);
    let store = (bench.make)();
    for (form, plain) in [Form::Compressed, Form::Plain].into_iter().zip(&all) {
        let writer = (bench.rules.another)(&store, form);
        assert_eq!(writer.form(), form);
        put(&writer, plain, false);
        flush(&writer);
    }
    for form in [Form::Compressed, Form::Plain] {
        let user = (bench.rules.another)(&store, form);
        for plain in &all {
            assert_holds(&user, plain);
            assert!(reuse(&user, &id_of(plain)), "a chunk in another form is not reused");
        }
    }
    let mut forms: Vec<_> = list(&store).into_iter().map(|stored| stored.form.name()).collect();
    forms.sort_unstable();
    assert_eq!(forms, ["compressed", "plain"]);
}

fn a_chunk_in_another_form_is_refused<S: PruneStore>(bench: &mut Bench<S>) {
    let store = (bench.make)();
    let other = match store.form() {
        Form::Compressed => Form::Plain,
        Form::Plain => Form::Compressed,
    };
    let (plain, id) = (b"x".to_vec(), id_of(b"x"));
    let mut packer = must(Packer::new(other, DEFAULT_LEVEL), || "no packer".into());
    let sealed = must(packer.seal(&id, &plain), || "cannot pack".into());
    let kind = store.put(&sealed, false).err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::Invalid));
}

fn a_list_names_each_chunk_once<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..40);
    let store = bench.with(&all);
    let mut expected: Vec<_> = all.iter().map(|plain| id_of(plain)).collect();
    expected.sort_unstable();
    let found = list(&store);
    assert!(found.iter().map(|stored| stored.id).eq(expected), "other chunks are listed");
    for stored in found {
        let packed = must(store.fetch(&stored.id), || "cannot fetch".into()).expect("it is listed");
        assert_eq!((stored.form, stored.len_bytes), (packed.form, packed.bytes.len() as u64));
        let age = stored.modified.elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(600), "it was written {age:?} ago");
    }
}

fn a_list_ends_with_the_error_of_who_visits<S: PruneStore>(bench: &mut Bench<S>) {
    let store = bench.with(&plains(0..3));
    let mut count = 0;
    let ended = store.list(&mut |_| {
        count += 1;
        Err(Error::new(ErrorKind::Cancelled, "enough"))
    });
    assert_eq!((ended.err().map(|error| error.kind()), count), (Some(ErrorKind::Cancelled), 1));
}

fn a_remove_takes_only_what_was_not_used_since<S: PruneStore>(bench: &mut Bench<S>) {
    let store = bench.with(&plains(0..2));
    let all = list(&store);
    assert_eq!(remove(&store, &all[0].id, all[0].modified), Removed::Kept);
    let before = all[0].modified - Duration::from_secs(5);
    assert_eq!(remove(&store, &all[0].id, before), Removed::Kept);
    assert!(has(&store, &all[0].id), "what was kept is gone");
    let behind = all[0].modified + Duration::from_secs(5);
    assert_eq!(remove(&store, &all[0].id, behind), Removed::Yes);
    assert_lacks(&store, &all[0].id);
    assert_eq!(remove(&store, &all[0].id, behind), Removed::Absent);
    assert!(has(&store, &all[1].id), "another went along");
}

fn what_a_living_writer_put_or_reused_is_kept<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..3);
    let (reused, new, unused) = (&all[0], &all[1], &all[2]);
    let store = bench.with(&[reused.clone(), unused.clone()]);
    // Else the clock of the files may not tell them apart.
    std::thread::sleep(Duration::from_millis(30));
    let writer = bench.another(&store);
    assert!(reuse(&writer, &id_of(reused)), "it is there");
    put(&writer, new, false);
    flush(&writer);
    assert_eq!(remove(&store, &id_of(reused), tomorrow()), Removed::Kept);
    assert_eq!(remove(&store, &id_of(new), tomorrow()), Removed::Kept);
    assert_eq!(remove(&store, &id_of(unused), tomorrow()), Removed::Yes);
    drop(writer);
    for plain in [reused, new] {
        assert_holds(&store, plain);
        assert_eq!(remove(&store, &id_of(plain), tomorrow()), Removed::Yes);
    }
}

fn what_was_removed_can_be_put_again<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..1);
    let store = bench.with(&all);
    assert_eq!(remove(&store, &id_of(&all[0]), tomorrow()), Removed::Yes);
    assert!(!reuse(&store, &id_of(&all[0])), "it was removed");
    put(&store, &all[0], false);
    flush(&store);
    assert_holds(&store, &all[0]);
}

fn many_are_removed_as_one_is<S: PruneStore>(bench: &mut Bench<S>) {
    let all = plains(0..600);
    let store = bench.with(&all);
    std::thread::sleep(Duration::from_millis(30));
    let writer = bench.another(&store);
    assert!(reuse(&writer, &id_of(&all[7])), "it is there");
    let mut ids: Vec<_> = all.iter().map(|plain| id_of(plain)).collect();
    ids.push(id_of(b"absent"));
    let mut told = Vec::new();
    let removed = store.remove_many(&ids, tomorrow(), &mut |id, removed| told.push((*id, removed)));
    must(removed, || "cannot remove many".into());
    assert!(told.iter().map(|(id, _)| id).eq(&ids), "not each is told of once, in order");
    for (id, removed) in told {
        let expected = match id {
            _ if id == id_of(&all[7]) => Removed::Kept,
            _ if id == id_of(b"absent") => Removed::Absent,
            _ => Removed::Yes,
        };
        assert_eq!(removed, expected, "{id}");
    }
    assert_eq!(list(&store).len(), 1);
}

fn many_threads_put_the_same_and_different_chunks<S: PruneStore>(bench: &mut Bench<S>) {
    let store = (bench.make)();
    let (same, different) = (plains(0..50), plains(100..300));
    let (store, same) = (&store, &same);
    together(
        different
            .chunks(25)
            .map(|own| -> Box<dyn FnOnce() + Send + '_> {
                Box::new(move || {
                    for (number, plain) in own.iter().enumerate() {
                        put(store, plain, number % 5 == 0);
                        put(store, &same[number * 2], false);
                        put(store, &same[number * 2 + 1], number % 3 == 0);
                        if number % 10 == 9 {
                            flush(store);
                            assert_holds(store, plain);
                        }
                    }
                    flush(store);
                    own.iter().for_each(|plain| assert_holds(store, plain));
                })
            })
            .collect(),
    );
    same.iter().for_each(|plain| assert_holds(store, plain));
    assert_eq!(list(store).len(), same.len() + different.len());
}

fn what_is_in_use_survives_somebody_who_removes_all_the_time<S: PruneStore>(bench: &mut Bench<S>) {
    const ROUNDS: usize = 15;
    const WRITERS: usize = 3;
    let all = plains(0..60);
    let store = bench.with(&all);
    let (store, all, bench) = (&store, &all, &*bench);
    let left = std::sync::atomic::AtomicUsize::new(WRITERS);
    let left = &left;
    // Made here, since who makes them may not be asked by several threads.
    let users: Vec<Vec<S>> =
        (0..WRITERS).map(|_| (0..ROUNDS).map(|_| bench.another(store)).collect()).collect();
    let mut works: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
    for own in users {
        works.push(Box::new(move || {
            let _done = Countdown(left);
            for writer in own {
                for plain in all {
                    if !reuse(&writer, &id_of(plain)) {
                        put(&writer, plain, false);
                    }
                }
                flush(&writer);
                all.iter().for_each(|plain| assert_holds(&writer, plain));
            }
        }));
    }
    works.push(Box::new(move || {
        let ids: Vec<_> = all.iter().map(|plain| id_of(plain)).collect();
        while left.load(std::sync::atomic::Ordering::Acquire) > 0 {
            let removed = store.remove_many(&ids, tomorrow(), &mut |_, _| ());
            must(removed, || "cannot remove".into());
        }
    }));
    together(works);
}

struct Countdown<'a>(&'a std::sync::atomic::AtomicUsize);

impl Drop for Countdown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Release);
    }
}
