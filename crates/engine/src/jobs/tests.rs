//! Jobs that run, end, are cancelled, and get in each other's way.

use std::sync::mpsc::{self, Receiver, Sender};

use testkit::host::TempDir;

use super::*;

struct Silence;

impl Listener for Silence {
    fn began(&self, _: Phase, _: u64) {}
    fn noted(&self, _: &str) {}
    fn warned(&self, _: &str) {}
}

fn writes(path: &str) -> Claims {
    Claims { what: "restore", reads: Vec::new(), writes: vec![path.into()] }
}

/// A job that runs until it is told to end, or is cancelled; what it ended with comes out of the second channel.
fn start(jobs: &Jobs, claims: Claims) -> Result<(JobId, Sender<u64>, Receiver<Result<u64>>)> {
    let (go, told) = mpsc::channel::<u64>();
    let (tell, ended) = mpsc::channel();
    let work = move |task: &Task| {
        task.begin(Phase::Copy, 1000);
        loop {
            task.checkpoint()?;
            match told.recv_timeout(Duration::from_millis(1)) {
                Ok(0) => panic!("on purpose"),
                Ok(number) => return Ok(number),
                Err(_) => task.advance(1),
            }
        }
    };
    let id = jobs.start(claims, Box::new(Silence), work, move |_, result| {
        tell.send(result).unwrap();
    })?;
    Ok((id, go, ended))
}

#[test]
fn a_job_runs_to_its_end_and_is_then_forgotten() {
    let jobs = Jobs::new(None).unwrap();
    let (id, go, ended) = start(&jobs, writes("/dev/a")).unwrap();
    assert_eq!(jobs.user_of(Path::new("/dev/a")).unwrap().what, "restore");
    assert_eq!(jobs.user_of(Path::new("/dev/b")), None);
    let standing = loop {
        let standing = jobs.standing(&id).unwrap();
        if standing.rate_bytes_per_s.is_some() {
            break standing;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((standing.phase, standing.total_bytes), (Some(Phase::Copy), 1000));
    assert!(standing.done_bytes > 0 && standing.left.is_some(), "{standing:?}");
    go.send(7).unwrap();
    assert_eq!(ended.recv().unwrap().unwrap(), 7);
    assert!(jobs.stop(Duration::from_secs(60)));
    assert_eq!((jobs.running(), jobs.standing(&id)), (0, None));
    assert!(!jobs.cancel(&id));
}

#[test]
fn a_cancelled_job_says_so_and_gives_back_its_claims_before() {
    let jobs = Jobs::new(None).unwrap();
    let (id, _go, ended) = start(&jobs, writes("/dev/a")).unwrap();
    let error = start(&jobs, writes("/dev/a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_eq!(error.to_string(), "/dev/a is in use by a restore that runs");
    assert!(jobs.cancel(&id));
    assert_eq!(ended.recv().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    let (_, go, ended) = start(&jobs, writes("/dev/a")).unwrap();
    go.send(1).unwrap();
    ended.recv().unwrap().unwrap();
}

#[test]
fn a_panic_becomes_an_error_and_leaves_nothing_claimed() {
    let jobs = Jobs::new(None).unwrap();
    let (_, go, ended) = start(&jobs, writes("/dev/a")).unwrap();
    go.send(0).unwrap();
    let error = ended.recv().unwrap().unwrap_err();
    assert!(error.to_string().ends_with("on purpose"), "{error}");
    assert_eq!(jobs.user_of(Path::new("/dev/a")), None);
}

#[test]
fn a_job_may_claim_more_unless_another_has_it() {
    let jobs = Jobs::new(None).unwrap();
    let (first, _go, _ended) = start(&jobs, writes("/dev/a")).unwrap();
    let (second, _go, _ended) = start(&jobs, writes("/dev/b")).unwrap();
    jobs.claim_more(&first, writes("/srv/x")).unwrap();
    jobs.claim_more(&first, writes("/srv/x")).unwrap();
    assert_eq!(jobs.claim_more(&second, writes("/srv/x")).unwrap_err().kind(), ErrorKind::InUse);
    let unknown = JobId::new().unwrap();
    assert_eq!(jobs.claim_more(&unknown, writes("/c")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(jobs.stop(Duration::from_secs(60)));
}

#[test]
fn stopping_ends_all_jobs_and_lets_none_begin() {
    let scratch = TempDir::new("jobs");
    let jobs = Jobs::new(Some(scratch.path().to_owned())).unwrap();
    let started: Vec<_> =
        (0..5).map(|number| start(&jobs, writes(&format!("/dev/{number}"))).unwrap()).collect();
    let notes = || std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!((jobs.running(), notes()), (5, 5));
    assert!(jobs.stop(Duration::from_secs(60)));
    assert_eq!((jobs.running(), notes()), (0, 0));
    for (_, _go, ended) in started {
        assert_eq!(ended.recv().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    }
    assert_eq!(start(&jobs, writes("/dev/9")).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn work_on_the_callers_thread_is_in_the_table_while_it_runs() {
    let jobs = Jobs::new(None).unwrap();
    let task = Task::silent();
    let seen = jobs.run(writes("/dev/a"), &task, |_| Ok(jobs.user_of(Path::new("/dev/a"))));
    assert_eq!(seen.unwrap(), Some(writes("/dev/a")));
    assert_eq!(jobs.user_of(Path::new("/dev/a")), None);
    let inner = jobs.run(writes("/dev/a"), &task, |_| start(&jobs, writes("/dev/a")).map(drop));
    assert_eq!(inner.unwrap_err().kind(), ErrorKind::InUse);
}
