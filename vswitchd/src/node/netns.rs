//! Network namespaces: opening one safely, and doing work inside it on a thread of its own.
#![expect(unsafe_code, reason = "NS_GET_NSTYPE is an ioctl nix has no safe wrapper for")]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::{Netns, NodeError};

/// The namespace of the calling thread; a thread may live in another one than its process.
const OWN: &str = "/proc/thread-self/ns/net";

/// `NS_GET_NSTYPE` of ioctl_ns(2), `_IO(0xb7, 3)`: which kind of namespace an nsfs file is.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// The network namespace of the calling thread.
///
/// # Errors
/// When /proc is not mounted, or is somebody else's.
pub(crate) fn own() -> Result<Netns, NodeError> {
    let path = PathBuf::from(OWN);
    let file = File::open(&path).map_err(|error| refused(&path, explain(&error)))?;
    let inode = file.metadata().map_err(|error| refused(&path, explain(&error)))?.ino();
    Ok(Netns { descriptor: OwnedFd::from(file), inode, path })
}

/// Opens a network namespace and checks that it is one, and another one than `own` (SEC-21). What
/// is checked is the descriptor, which is also what is kept: the path may change meaning between
/// the two.
///
/// # Errors
/// [`NodeError::Netns`] with the reason.
pub(crate) fn open(path: &Path, own: &Netns) -> Result<Netns, NodeError> {
    // Non-blocking, because a path that is a FIFO would make the open wait for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| refused(path, explain(&error)))?;
    adopt(file, path, own)
}

/// Checks an open file as [`open`] does; `path` is what errors call it.
///
/// # Errors
/// [`NodeError::Netns`] with the reason.
pub(crate) fn adopt(file: File, path: &Path, own: &Netns) -> Result<Netns, NodeError> {
    let kind =
        fstatfs(&file).map_err(|errno| refused(path, format!("cannot be examined: {errno}")))?;
    if kind.filesystem_type() != NSFS_MAGIC {
        return Err(refused(path, "is no namespace but another kind of file".to_owned()));
    }
    if namespace_type(&file).map_err(|error| refused(path, explain(&error)))? != libc::CLONE_NEWNET
    {
        return Err(refused(path, "is a namespace, but not one of type net".to_owned()));
    }
    let inode = file.metadata().map_err(|error| refused(path, explain(&error)))?.ino();
    if inode == own.inode {
        return Err(refused(path, "is the node's own; a pod needs one of its own".to_owned()));
    }
    Ok(Netns { descriptor: OwnedFd::from(file), inode, path: path.to_owned() })
}

/// Runs `work` on a new thread inside `netns` and waits for it. The caller's thread never changes
/// namespace, so nothing it does later can land in the wrong one.
///
/// # Errors
/// Those of `work`; [`NodeError::Kernel`] when the namespace cannot be entered or the work
/// panicked.
pub(crate) fn within<T: Send>(
    netns: &Netns,
    work: impl FnOnce() -> Result<T, NodeError> + Send,
) -> Result<T, NodeError> {
    let inside = || {
        setns(&netns.descriptor, CloneFlags::CLONE_NEWNET).map_err(|errno| NodeError::Kernel {
            doing: format!("cannot enter the network namespace {}", netns.path.display()),
            source: errno.into(),
        })?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, inside)
            .map_err(|source| NodeError::Kernel {
                doing: "cannot start a thread for work in a network namespace".to_owned(),
                source,
            })?;
        thread.join().unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(NodeError::Kernel {
                doing: format!("work in the network namespace {} panicked", netns.path.display()),
                source: io::Error::other(said.unwrap_or_else(|| "no message".to_owned())),
            })
        })
    })
}

/// Makes a new, empty namespace that stays alive without a process: a mount on the file `path`,
/// which is made.
///
/// # Errors
/// [`NodeError::Kernel`]; nothing is left behind then.
pub(crate) fn make(path: &Path) -> Result<(), NodeError> {
    let fail = |what: &str, source: io::Error| NodeError::Kernel {
        doing: format!("cannot {what} for the namespace at {}", path.display()),
        source,
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| fail("make the mount point", error))?;
    let pinned = thread::scope(|scope| {
        let pin = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        };
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, pin)?;
        match thread.join() {
            Ok(result) => result.map_err(io::Error::from),
            Err(_panic) => Err(io::Error::other("the thread panicked")),
        }
    });
    pinned.map_err(|error| {
        drop(fs::remove_file(path));
        fail("unshare and mount", error)
    })
}

/// Takes away what [`make`] made. What is gone already is no error. The namespace itself ends with
/// the last descriptor to it.
///
/// # Errors
/// [`NodeError::Kernel`] when it cannot be unmounted or removed.
pub(crate) fn remove(path: &Path) -> Result<(), NodeError> {
    let fail = |source: io::Error| NodeError::Kernel {
        doing: format!("cannot remove the namespace at {}", path.display()),
        source,
    };
    // A crash between two starts can have stacked mounts: take all. EINVAL says that none is left.
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => break,
            Err(errno) => return Err(fail(errno.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a namespace is mounted at `path`: a leftover of the mount point alone is a plain file.
pub(crate) fn is_mounted(path: &Path) -> bool {
    File::open(path)
        .is_ok_and(|file| fstatfs(&file).is_ok_and(|kind| kind.filesystem_type() == NSFS_MAGIC))
}

/// The `CLONE_NEW*` constant of an nsfs file.
fn namespace_type(file: &File) -> io::Result<libc::c_int> {
    // SAFETY: NS_GET_NSTYPE takes no argument and writes to no memory of ours; the descriptor is
    // open as long as `file` is borrowed, and any other file than an nsfs one answers ENOTTY.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

fn refused(path: &Path, why: String) -> NodeError {
    NodeError::Netns { path: path.to_owned(), why }
}

fn explain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "does not exist".to_owned()
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "may not be opened: this needs root".to_owned()
    } else {
        format!("cannot be opened: {error}")
    }
}
