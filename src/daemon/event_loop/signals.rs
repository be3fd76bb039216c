//! Signals as messages: stop, stop at once, reload. On Windows the console's events take
//! their role.
//!
//! Owns the meaning of each signal. The second request to stop ends the process at once, whatever
//! the event loop is doing, because pressing Ctrl-C twice is deliberate.

/// The request of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Finish quick work, save the state, end.
    Stop,
    /// Read the configuration again.
    #[cfg_attr(
        all(windows, not(test)),
        expect(dead_code, reason = "a console has no event for it")
    )]
    Reload,
}

#[cfg(unix)]
mod imp {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use futures_util::StreamExt as _;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook_tokio::Signals;

    use super::Signal;

    pub(crate) struct SignalStream {
        signals: Signals,
    }

    impl SignalStream {
        /// Takes over SIGINT, SIGTERM and SIGHUP for the rest of the process.
        pub(crate) fn new() -> io::Result<Self> {
            let stopping = Arc::new(AtomicBool::new(false));
            for signal in [SIGINT, SIGTERM] {
                // The order matters: the first signal finds the flag unset and sets it; the second
                // one ends the process in the handler itself, even if the event loop hangs. 1 is
                // the exit code of an interrupted job.
                signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
                signal_hook::flag::register(signal, Arc::clone(&stopping))?;
            }
            // Exceeding a limit on file sizes becomes an error of the write, like a full disk.
            // Unhandled, this signal ends the process.
            signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
            debug_assert!(!stopping.load(Ordering::Relaxed), "no signal has come yet");
            Ok(Self { signals: Signals::new([SIGINT, SIGTERM, SIGHUP])? })
        }

        pub(crate) async fn next(&mut self) -> Signal {
            loop {
                match self.signals.next().await {
                    Some(SIGHUP) => return Signal::Reload,
                    Some(_) => return Signal::Stop,
                    None => std::future::pending().await,
                }
            }
        }
    }
}

#[cfg(windows)]
mod imp {
    //! What Windows sends to a console program: Ctrl-C, Ctrl-Break, and events for closing its
    //! window, logging off and shutting down. After the last three it ends the process in about 5
    //! s, which is why a stop takes less. There is no event for "reload"; a saved configuration is
    //! noticed automatically.

    use std::{
        future::poll_fn,
        io,
        task::{Context, Poll},
    };

    use tokio::{
        signal::windows::{
            CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close,
            ctrl_logoff, ctrl_shutdown,
        },
        sync::mpsc,
    };

    use super::Signal;

    /// The requests to stop this process, as a stream.
    pub(crate) struct SignalStream {
        stops: mpsc::UnboundedReceiver<()>,
    }

    impl SignalStream {
        /// Takes over the console's events for the rest of the process.
        pub(crate) fn new() -> io::Result<Self> {
            let (sender, stops) = mpsc::unbounded_channel();
            let (ready, made) = std::sync::mpsc::channel();
            // A separate thread, so that the second request ends the process even if the event
            // loop hangs.
            std::thread::Builder::new()
                .name("signals".to_owned())
                .spawn(move || listen(&ready, &sender))?;
            made.recv().map_err(io::Error::other)??;
            Ok(Self { stops })
        }

        /// Waits for the next request.
        pub(crate) async fn next(&mut self) -> Signal {
            match self.stops.recv().await {
                Some(()) => Signal::Stop,
                None => std::future::pending().await,
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the second request ends the process, as the handler does on Unix"
    )]
    fn listen(ready: &std::sync::mpsc::Sender<io::Result<()>>, sender: &mpsc::UnboundedSender<()>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            // If the receiver is gone, the daemon has already ended.
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            let mut events = match Events::new() {
                Ok(events) => events,
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok(())));
            events.next().await;
            // An event loop that is gone has already stopped.
            let _ = sender.send(());
            events.next().await;
            // The exit code of an interrupted job.
            std::process::exit(1);
        });
    }

    struct Events {
        typed: CtrlC,
        broken: CtrlBreak,
        closed: CtrlClose,
        logged_off: CtrlLogoff,
        shut_down: CtrlShutdown,
    }

    impl Events {
        fn new() -> io::Result<Self> {
            Ok(Self {
                typed: ctrl_c()?,
                broken: ctrl_break()?,
                closed: ctrl_close()?,
                logged_off: ctrl_logoff()?,
                shut_down: ctrl_shutdown()?,
            })
        }

        async fn next(&mut self) {
            poll_fn(|context| self.poll(context)).await;
        }

        fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
            // Polls all of them, so that each one that is not ready registers the waker.
            let came = [
                self.typed.poll_recv(context).is_ready(),
                self.broken.poll_recv(context).is_ready(),
                self.closed.poll_recv(context).is_ready(),
                self.logged_off.poll_recv(context).is_ready(),
                self.shut_down.poll_recv(context).is_ready(),
            ];
            if came.contains(&true) { Poll::Ready(()) } else { Poll::Pending }
        }
    }
}

pub(crate) use imp::SignalStream;

impl SignalStream {
    /// Waits for the first request to stop.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}

/// Waits for the order to stop; a dropped sender is not an order.
pub(crate) async fn stop_requested(stop: &mut Option<tokio::sync::oneshot::Receiver<()>>) {
    let requested = match stop.as_mut() {
        Some(receiver) => receiver.await.is_ok(),
        None => false,
    };
    *stop = None;
    if !requested {
        std::future::pending::<()>().await;
    }
}
