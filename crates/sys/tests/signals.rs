//! SIGTERM and SIGINT as bytes of a pipe.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use libc::{SIGINT, SIGTERM};

/// A child process, killed on drop.
struct Sleep(Child);

impl Sleep {
    fn start() -> Self {
        Self(Command::new("sleep").arg("60").spawn().unwrap())
    }

    /// What proc(5) says in the line of `status` that begins with `name`.
    fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let mut lines = status.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
        value.expect("the kernel has this line").trim().to_owned()
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn children_inherit_neither_the_pipe_nor_a_blocked_signal() {
    let pipe = lock();
    let mut child = Sleep::start();
    for mask in ["SigBlk", "SigCgt"] {
        assert_eq!(child.status(mask), "0000000000000000", "{mask}");
    }
    let link = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let link = fs::read_link(link).unwrap();
    assert_eq!(ends("/proc/self/fd", &link), 2);
    assert_eq!(ends(&format!("/proc/{}/fd", child.0.id()), &link), 0);

    let id = child.0.id().try_into().unwrap();
    // SAFETY: kill(2) touches no memory, and the child has not been waited for.
    assert_eq!(unsafe { libc::kill(id, SIGTERM) }, 0);
    assert_eq!(child.0.wait().unwrap().signal(), Some(SIGTERM));
}

#[test]
fn unread_signals_keep_their_order_and_none_is_merged_into_another() {
    let mut pipe = lock();
    let mut bytes = [0; 8];
    let error = pipe.read(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    for signal in [SIGTERM, SIGTERM, SIGINT] {
        raise(signal);
    }
    assert_eq!(pipe.read(&mut bytes).unwrap(), 3);
    assert_eq!(bytes[..3], [15, 15, 2]);
}

#[test]
fn a_signal_that_finds_the_pipe_full_changes_nothing() {
    let mut pipe = lock();
    // SAFETY: fcntl(2) touches no memory for this.
    let room = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) };
    let room = usize::try_from(room).unwrap();
    for _ in 0..=room {
        // SAFETY: `errno` is this thread's own.
        unsafe { *libc::__errno_location() = libc::EDOM };
        raise(SIGTERM);
        assert_eq!(Error::last_os_error().raw_os_error(), Some(libc::EDOM));
    }
    assert_eq!(pipe.read(&mut vec![0; 2 * room]).unwrap(), room);
}

/// The pipe, for one test at a time: handlers are those of the whole process.
fn lock() -> MutexGuard<'static, File> {
    static PIPE: LazyLock<Mutex<File>> =
        LazyLock::new(|| Mutex::new(sys::signal_pipe().unwrap().into()));
    PIPE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a signal to this thread, and returns after its handler.
fn raise(signal: i32) {
    // SAFETY: the handler that is called has to be safe at any time.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// How many of the descriptors in `directory` are ends of `pipe`.
fn ends(directory: &str, pipe: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap();
    // What another thread has closed meanwhile has no link any more.
    let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link == pipe).count()
}
