//! Calls to the system that may hang, on threads of their own. Neither the runtime nor the process waits for such a
//! thread, which tokio's blocking pool would do. Nothing else lives here.
//!
//! A paused tokio clock does not wait for these threads either: tests in virtual time use links that need none.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::link::{LinkError, LinkErrorKind};

/// Runs `job` on a thread of its own and gives what it returns. After `limit` of real time the job is given up: it ends
/// when the system lets it, and its result is dropped on its own thread. The same where the caller stops waiting.
pub(super) async fn run<T: Send + 'static>(
    what: &str,
    limit: Duration,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LinkError> {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let (running, done) = channel::<()>();
    let take = |sender: &Mutex<Option<oneshot::Sender<_>>>| {
        sender.lock().unwrap_or_else(PoisonError::into_inner).take()
    };

    let for_job = Arc::clone(&sender);
    let worker = spawn(move || {
        let result = job();
        if let Some(sender) = take(&for_job) {
            // The caller may have stopped waiting.
            let _ = sender.send(Some(result));
        }
        drop(running);
    });
    let watchdog = spawn(move || {
        if done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout)
            && let Some(sender) = take(&sender)
        {
            let _ = sender.send(None);
        }
    });
    if let Err(error) = worker.and(watchdog) {
        return Err(LinkError {
            kind: LinkErrorKind::Unavailable,
            message: format!("expected a thread to {what}, got: {error}"),
            help: "raise the limit on threads or run fewer devices at once (`--parallel`)".to_owned(),
            source: Some(Arc::new(error)),
        });
    }
    match receiver.await {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(LinkError::new(
            LinkErrorKind::Io,
            format!("the system did not {what} within {} s", limit.as_secs_f32()),
            "unplug the device and plug it in again, then look at the kernel's log",
        )),
        Err(_) => Err(LinkError::new(
            LinkErrorKind::Io,
            format!("the thread that was to {what} panicked"),
            "this is a defect of flashfleet: please report it",
        )),
    }
}

/// Starts a thread that nobody waits for.
pub(super) fn spawn(job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    // In a box: starting a thread is much code to have once for each job.
    let job: Box<dyn FnOnce() + Send> = Box::new(job);
    thread::Builder::new().name("flashfleet-io".to_owned()).spawn(job).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_hangs_is_given_up() {
        let (release, hold) = channel::<()>();
        let begin = std::time::Instant::now();
        let error = run("open it", Duration::from_millis(20), move || hold.recv()).await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(error.kind, LinkErrorKind::Io);
        assert!(error.message.contains("did not open it within 0.02 s"), "{error}");
        drop(release);
    }

    #[tokio::test]
    async fn a_job_that_panics_is_an_error() {
        let error = run("open it", Duration::from_secs(5), || panic!("on purpose")).await.unwrap_err();
        assert!(error.message.contains("panicked"), "{error}");
    }

    #[test]
    fn the_runtime_does_not_wait() {
        let (release, hold) = channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let job = run("open it", Duration::from_secs(60), move || hold.recv());
            tokio::select! { biased; _ = job => panic!("it hangs"), () = tokio::task::yield_now() => () }
        });
        // Would hang here, were the job one of the runtime's.
        drop(runtime);
        drop(release);
    }
}
