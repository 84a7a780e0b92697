//! Descriptors that whoever runs the tests left open: no daemon under test shall inherit them. Used by `daemon.rs`.

use std::sync::Once;

/// Marks every descriptor of this process but 0, 1 and 2 close-on-exec, once.
pub(crate) fn keep_from_children() {
    static ONCE: Once = Once::new();
    // SAFETY: the call changes nothing but the flag of descriptors, and this is the flag that std sets on all of its
    // own anyway. A kernel without it (before 5.11) refuses, and nothing is changed.
    ONCE.call_once(|| unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    });
}
