//! Signals as messages: stop, stop at once, reload.
//!
//! Owns which signal means what. The second request to stop ends the process at once, whatever the loop is doing: a person
//! who presses Ctrl-C twice means it.

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Finish what is quick, persist, end.
    Stop,
    /// Read the configuration again.
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

    /// The signals of this process, as a stream.
    pub(crate) struct SignalStream {
        signals: Signals,
    }

    impl SignalStream {
        /// Takes over SIGINT, SIGTERM and SIGHUP for the rest of the process.
        pub(crate) fn new() -> io::Result<Self> {
            let stopping = Arc::new(AtomicBool::new(false));
            for signal in [SIGINT, SIGTERM] {
                // The order matters: the first signal finds the flag down and raises it, the second one ends the process
                // in the handler itself, even when the loop hangs. 1 is the exit code of a job that was broken off.
                signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))?;
                signal_hook::flag::register(signal, Arc::clone(&stopping))?;
            }
            // A limit on file sizes is an error of the write that meets it, like a full disk. Unhandled, this signal is death.
            signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
            debug_assert!(!stopping.load(Ordering::Relaxed), "no signal has come yet");
            Ok(Self { signals: Signals::new([SIGINT, SIGTERM, SIGHUP])? })
        }

        /// Waits for the next one.
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

#[cfg(not(unix))]
mod imp {
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use super::Signal;

    /// Ctrl-C of this process, as a stream.
    pub(crate) struct SignalStream {
        stopping: Arc<AtomicBool>,
        told: bool,
    }

    impl SignalStream {
        /// Takes over Ctrl-C for the rest of the process.
        pub(crate) fn new() -> io::Result<Self> {
            let stopping = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register_conditional_shutdown(
                signal_hook::consts::SIGINT,
                1,
                Arc::clone(&stopping),
            )?;
            signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stopping))?;
            Ok(Self { stopping, told: false })
        }

        /// Waits for it. There is no signal to wait on here, so the flag is looked at four times a second.
        pub(crate) async fn next(&mut self) -> Signal {
            loop {
                if self.stopping.load(Ordering::Relaxed) && !self.told {
                    self.told = true;
                    return Signal::Stop;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
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

/// Waits for the word to stop; a sender that is gone has not said it.
pub(crate) async fn told_to_stop(stop: &mut Option<tokio::sync::oneshot::Receiver<()>>) {
    let told = match stop.as_mut() {
        Some(receiver) => receiver.await.is_ok(),
        None => false,
    };
    *stop = None;
    if !told {
        std::future::pending::<()>().await;
    }
}
