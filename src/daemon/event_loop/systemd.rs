//! Notifications to the service manager: ready, reloading, stopping, one status line, and that the
//! event loop is alive.
//!
//! Owns systemd's notification protocol (`sd_notify(3)`: datagrams of `NAME=value` lines to
//! `$NOTIFY_SOCKET`) and its timing: a status line at most once a second, the watchdog at half its
//! time. Only the event loop calls it, so a loop that hangs stops feeding the watchdog. On other
//! systems than Linux, and without a listener, it does nothing. [`crate::daemon::api::status_view`]
//! writes the line; nothing here can fail the daemon.

use std::{collections::BTreeMap, time::Duration};

use crate::{clock::Clock, domain::time::Moment};

/// The shortest interval between two status lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the first scan of the inputs may delay "ready": a drive that hangs must not make the
/// start time out, and `status` reports it.
const FIRST_SCAN_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest line: `systemctl status` shows it on one line.
const MAX_LINE_CHARS: usize = 240;

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: Option<imp::Socket>,
    watchdog: Option<Watchdog>,
    began_at: Moment,
    ready: bool,
    stopping: bool,
    line: StatusLine,
}

/// The watchdog's interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watchdog {
    interval: Duration,
    next: Moment,
}

/// The status line: what was sent and when, and what to send next.
#[derive(Debug, Default)]
struct StatusLine {
    shown: String,
    at: Moment,
    next: Option<String>,
}

impl ServiceManager {
    /// Reads from the environment whether there is a listener; `pid` is ours.
    pub(crate) fn of(env: &BTreeMap<String, String>, pid: u32, now: Moment) -> Self {
        let socket = env.get("NOTIFY_SOCKET").and_then(|name| imp::Socket::open(name));
        let watchdog = socket.as_ref().and_then(|_| watchdog(env, pid)).map(|every| {
            // The first one is sent in the first turn of the event loop.
            Watchdog { interval: every, next: now }
        });
        let line = StatusLine::default();
        Self { socket, watchdog, began_at: now, ready: false, stopping: false, line }
    }

    /// Returns a manager that notifies nothing.
    pub(crate) fn disabled(now: Moment) -> Self {
        Self::of(&BTreeMap::new(), 0, now)
    }

    /// Returns whether "ready" was reported.
    pub(crate) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Sends what is due in one turn of the event loop. `looked` says that every input was
    /// scanned once.
    pub(crate) fn tick(&mut self, looked: bool, now: Moment) {
        if self.socket.is_none() {
            return;
        }
        if !self.ready
            && !self.stopping
            && (looked || now >= self.began_at.plus(FIRST_SCAN_TIMEOUT))
        {
            self.ready = true;
            self.notify("READY=1");
        }
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| now >= watchdog.next) {
            watchdog.next = now.plus(watchdog.interval);
            self.notify("WATCHDOG=1");
        }
        if now >= self.line.at.plus(LINE_INTERVAL)
            && let Some(line) = self.line.next.take()
        {
            self.notify(&format!("STATUS={line}"));
            self.line.shown = line;
            self.line.at = now;
        }
    }

    /// Returns when the event loop must turn again for this; `None` if it need not.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.socket.as_ref()?;
        let ready = (!self.ready && !self.stopping).then(|| self.began_at.plus(FIRST_SCAN_TIMEOUT));
        let watchdog = self.watchdog.map(|watchdog| watchdog.next);
        let line = self.line.next.as_ref().map(|_| self.line.at.plus(LINE_INTERVAL));
        [ready, watchdog, line].into_iter().flatten().min()
    }

    /// Takes the newest line. It is sent if it is different and the previous one is old enough.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.socket.is_none() {
            return;
        }
        let line = line();
        let plain = line.chars().map(|c| if c.is_control() { ' ' } else { c });
        let line: String = plain.take(MAX_LINE_CHARS).collect();
        self.line.next = (line != self.line.shown).then_some(line);
    }

    /// Reports that the configuration is being reloaded.
    pub(crate) fn reloading(&mut self) {
        if !self.ready || self.stopping {
            return;
        }
        // Type=notify-reload (systemd 253) compares this time with that of its signal.
        match Clock.monotonic_micros() {
            Some(micros) => self.notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}")),
            None => self.notify("RELOADING=1"),
        }
    }

    /// Reports that the reload is over, accepted or refused.
    pub(crate) fn reloaded(&mut self) {
        if self.ready && !self.stopping {
            self.notify("READY=1");
        }
    }

    /// Reports that the daemon is stopping.
    pub(crate) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.notify("STOPPING=1");
        }
    }

    fn notify(&self, message: &str) {
        if let Some(socket) = &self.socket {
            socket.send(message);
        }
    }
}

/// Returns how often to feed the watchdog: at half its time-out, as
/// `sd_watchdog_enabled(3)` advises.
fn watchdog(env: &BTreeMap<String, String>, pid: u32) -> Option<Duration> {
    let number = |name: &str| env.get(name)?.trim().parse::<u64>().ok();
    if env.contains_key("WATCHDOG_PID") && number("WATCHDOG_PID") != Some(u64::from(pid)) {
        return None;
    }
    let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros / 2))
}

#[cfg(target_os = "linux")]
mod imp {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    /// Our socket and the manager's address.
    #[derive(Debug)]
    pub(super) struct Socket {
        ours: UnixDatagram,
        to: SocketAddr,
    }

    impl Socket {
        /// Opens a socket. `name` is a path, or with a leading `@` a name in the kernel's
        /// abstract namespace.
        pub(super) fn open(name: &str) -> Option<Self> {
            let to = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None if name.starts_with('/') => SocketAddr::from_pathname(name),
                // `vsock:` is for whole virtual machines.
                None => return None,
            };
            let ours = UnixDatagram::unbound().ok()?;
            // A manager that does not read must not block the loop.
            ours.set_nonblocking(true).ok()?;
            Some(Self { ours, to: to.ok()? })
        }

        pub(super) fn send(&self, message: &str) {
            if let Err(error) = self.ours.send_to_addr(message.as_bytes(), &self.to) {
                tracing::debug!(%error, "the service manager cannot be notified");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    /// There is no listener on this platform.
    #[derive(Debug)]
    pub(super) struct Socket;

    impl Socket {
        pub(super) fn open(_name: &str) -> Option<Self> {
            None
        }

        #[expect(clippy::unused_self, reason = "the same shape as on Linux")]
        pub(super) fn send(&self, _words: &str) {}
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).expect("a socket of ours");
        let mut all = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(length) = socket.recv(&mut bytes) {
            all.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        all
    }

    fn second(number: u64) -> Moment {
        Moment::from_millis(number * 1000)
    }

    #[test]
    fn ready_comes_after_the_first_look_and_a_line_at_most_once_a_second() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("binds");
        let env = env(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]);
        let mut manager = ServiceManager::of(&env, 7, second(100));

        manager.show(|| "starts".to_owned());
        manager.tick(false, second(100));
        assert_eq!(heard(&listener), ["STATUS=starts"]);
        manager.tick(true, second(100));
        assert_eq!(heard(&listener), ["READY=1"]);

        for line in ["one", "two", "three\nlines"] {
            manager.show(|| line.to_owned());
            manager.tick(true, Moment::from_millis(100_500));
        }
        assert_eq!(heard(&listener), [""; 0], "the second is not over");
        assert_eq!(manager.deadline(), Some(second(101)));
        manager.tick(true, second(101));
        assert_eq!(heard(&listener), ["STATUS=three lines"], "only the newest, on one line");
        manager.show(|| "three\nlines".to_owned());
        assert_eq!(manager.deadline(), None, "nothing new, nothing to wake up for");
        manager.stopping();
        manager.stopping();
        manager.reloading();
        assert_eq!(heard(&listener), ["STOPPING=1"]);
    }

    #[test]
    fn a_drive_that_hangs_delays_ready_but_not_for_ever() {
        let address = format!("conjured-test-ready-{}", std::process::id());
        let name = SocketAddr::from_abstract_name(&address).expect("a name");
        let listener = UnixDatagram::bind_addr(&name).expect("binds");
        let env = env(&[("NOTIFY_SOCKET", &format!("@{address}"))]);
        let mut manager = ServiceManager::of(&env, 7, second(100));
        manager.tick(false, second(119));
        assert_eq!(heard(&listener), [""; 0]);
        assert_eq!(manager.deadline(), Some(second(120)));
        manager.tick(false, second(120));
        assert_eq!(heard(&listener), ["READY=1"]);
        manager.reloading();
        manager.reloaded();
        let said = heard(&listener);
        assert!(said[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said:?}");
        assert_eq!(said[1], "READY=1");
    }

    #[test]
    fn the_watchdog_is_fed_at_half_its_time_and_only_where_it_is_ours() {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let path = temp.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("binds");
        let path = path.to_str().expect("UTF-8");
        let ours = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "120000000"), ("WATCHDOG_PID", "7")];
        let mut manager = ServiceManager::of(&env(&ours), 7, second(100));
        manager.tick(true, second(100));
        manager.tick(true, second(159));
        assert_eq!(heard(&listener), ["READY=1", "WATCHDOG=1"]);
        assert_eq!(manager.deadline(), Some(second(160)));
        manager.tick(true, second(160));
        assert_eq!(heard(&listener), ["WATCHDOG=1"]);

        assert_eq!(watchdog(&env(&ours), 8), None, "it is another process's");
        assert_eq!(watchdog(&env(&[("WATCHDOG_USEC", "0")]), 7), None);
        assert_eq!(watchdog(&env(&[("WATCHDOG_USEC", "soon")]), 7), None);
    }

    #[test]
    fn where_nobody_listens_nothing_happens_and_nothing_wakes_the_loop() {
        for name in ["", "relative", "vsock:2:1234", "/nowhere/at/all"] {
            let mut manager = ServiceManager::of(&env(&[("NOTIFY_SOCKET", name)]), 7, second(100));
            manager.show(|| "a line".to_owned());
            manager.tick(true, second(200));
            manager.reloading();
            manager.stopping();
        }
        let manager = ServiceManager::disabled(second(100));
        assert_eq!(manager.deadline(), None);
    }
}
