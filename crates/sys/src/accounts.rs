//! The numbers of users and groups, by name; see getpwnam_r(3). The listeners ask for the owners of socket files.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::ptr;

/// The number of the user of this name; `None` if there is none.
///
/// # Errors
/// The database of users cannot be read.
pub fn user_id(name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: all zeros is a value of this plain structure.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    with_buffer(|buffer, length| {
        // SAFETY: the name ends with a NUL; the entry and the buffer, of that length, are ours to write to.
        unsafe { libc::getpwnam_r(name.as_ptr(), &raw mut entry, buffer, length, &raw mut found) }
    })?;
    Ok((!found.is_null()).then_some(entry.pw_uid))
}

/// The number of the group of this name; `None` if there is none.
///
/// # Errors
/// The database of groups cannot be read.
pub fn group_id(name: &CStr) -> io::Result<Option<u32>> {
    // SAFETY: all zeros is a value of this plain structure.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    with_buffer(|buffer, length| {
        // SAFETY: the name ends with a NUL; the entry and the buffer, of that length, are ours to write to.
        unsafe { libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer, length, &raw mut found) }
    })?;
    Ok((!found.is_null()).then_some(entry.gr_gid))
}

/// Calls with a buffer, and again with a larger one as long as it is too small.
fn with_buffer(mut call: impl FnMut(*mut c_char, usize) -> c_int) -> io::Result<()> {
    const LARGEST: usize = 1 << 20;
    let mut length = 1024;
    loop {
        let mut buffer: Vec<c_char> = vec![0; length];
        match call(buffer.as_mut_ptr(), length) {
            // "Not found" comes in several ways, see the man page.
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(()),
            libc::ERANGE if length < LARGEST => length *= 2,
            libc::EINTR => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_numbers() {
        assert_eq!(user_id(c"root").unwrap(), Some(0));
        assert_eq!(group_id(c"root").unwrap(), Some(0));
        assert_eq!(user_id(c"no such user").unwrap(), None);
        assert_eq!(group_id(c"no such group").unwrap(), None);
    }
}
