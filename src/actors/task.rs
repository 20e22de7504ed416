//! A future that runs as a task of its own. What it does is not known here.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

/// A future that is polled when it has something to do, and not whenever the actor that waits for it is: nor is the actor's
/// mailbox looked at for every message of the device. It ends when this is dropped, and a panic in it is one of who waits.
#[derive(Debug)]
pub(super) struct Task<T>(JoinHandle<T>);

impl<T: 'static> Task<T> {
    /// Starts it on this thread, as actors are.
    pub(super) fn spawn(work: impl Future<Output = T> + 'static) -> Self {
        Self(tokio::task::spawn_local(work))
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(result) => Poll::Ready(result),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Cancelled with the whole runtime: nobody waits any more.
                Err(_) => Poll::Pending,
            },
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn it_gives_its_result_and_ends_when_nobody_waits_any_more() {
        let local = LocalSet::new();
        local
            .run_until(async {
                assert_eq!(Task::spawn(async { 7 }).await, 7);
                let held = Arc::new(());
                let inside = Arc::clone(&held);
                let task = Task::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(inside);
                });
                tokio::task::yield_now().await;
                assert_eq!(Arc::strong_count(&held), 2);
                drop(task);
                tokio::task::yield_now().await;
                assert_eq!(Arc::strong_count(&held), 1);
            })
            .await;
    }

    #[tokio::test]
    #[should_panic(expected = "the device's own")]
    async fn a_panic_in_it_is_one_of_who_waits() {
        LocalSet::new().run_until(async { Task::spawn(async { panic!("the device's own") }).await }).await
    }
}
