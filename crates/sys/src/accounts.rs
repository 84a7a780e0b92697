//! What the databases of users and groups say; see getpwnam_r(3). The listeners ask for the owners of socket files, and
//! the one who spawns workers for their user.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::ptr;

/// The account of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What it is called.
    pub name: CString,
    /// The number of the user.
    pub id: u32,
    /// The number of its primary group.
    pub group: u32,
    /// Its home directory.
    pub home: CString,
    /// Its shell.
    pub shell: CString,
}

/// The number of the user of this name; `None` if there is none.
///
/// # Errors
/// The database of users cannot be read.
pub fn user_id(name: &CStr) -> io::Result<Option<u32>> {
    Ok(user_named(name)?.map(|user| user.id))
}

/// The account of this name; `None` if there is none.
///
/// # Errors
/// The database of users cannot be read.
pub fn user_named(name: &CStr) -> io::Result<Option<User>> {
    // SAFETY: the name ends with a NUL; the other pointers are those that `account` vouches for.
    account(|entry, buffer, length, found| unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer, length, found) })
}

/// The account with this number; `None` if there is none.
///
/// # Errors
/// The database of users cannot be read.
pub fn user_numbered(id: u32) -> io::Result<Option<User>> {
    // SAFETY: the pointers are those that `account` vouches for.
    account(|entry, buffer, length, found| unsafe { libc::getpwuid_r(id, entry, buffer, length, found) })
}

/// The numbers of all groups that a user belongs to, its primary group first; see getgrouplist(3).
///
/// # Errors
/// The list does not come to an end.
pub fn groups_of(user: &User) -> io::Result<Vec<u32>> {
    const MOST: c_int = 1 << 16;
    let mut room: c_int = 32;
    loop {
        let mut groups: Vec<libc::gid_t> = vec![0; usize::try_from(room).unwrap_or(0)];
        let mut count = room;
        // SAFETY: the name ends with a NUL; the list has room for `count` numbers, which the call is told.
        let result = unsafe { libc::getgrouplist(user.name.as_ptr(), user.group, groups.as_mut_ptr(), &raw mut count) };
        if result >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        if room >= MOST {
            return Err(io::Error::other("it belongs to too many groups"));
        }
        // Not every C library says how many there are.
        room = count.max(room.saturating_mul(2)).min(MOST);
    }
}

/// Looks an account up. `call` gets an entry, a buffer and its length, and where to say whether anything was found: all
/// of them to be written to, and alive while it runs.
fn account(
    mut call: impl FnMut(*mut libc::passwd, *mut c_char, usize, *mut *mut libc::passwd) -> c_int,
) -> io::Result<Option<User>> {
    // SAFETY: all zeros is a value of this plain structure.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = ptr::null_mut();
    // What the entry points to is in the buffer.
    let buffer = with_buffer(|buffer, length| call(&raw mut entry, buffer, length, &raw mut found))?;
    if found.is_null() {
        return Ok(None);
    }
    let text = |text: *const c_char| {
        if text.is_null() {
            return CString::default();
        }
        // SAFETY: the call has left a string that ends with a NUL in the buffer, which is still there.
        unsafe { CStr::from_ptr(text) }.to_owned()
    };
    let user = User {
        name: text(entry.pw_name),
        id: entry.pw_uid,
        group: entry.pw_gid,
        home: text(entry.pw_dir),
        shell: text(entry.pw_shell),
    };
    drop(buffer);
    Ok(Some(user))
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

/// Calls with a buffer, and again with a larger one as long as it is too small. Returns the one that was large enough.
fn with_buffer(mut call: impl FnMut(*mut c_char, usize) -> c_int) -> io::Result<Vec<c_char>> {
    const LARGEST: usize = 1 << 20;
    let mut length = 1024;
    loop {
        let mut buffer: Vec<c_char> = vec![0; length];
        match call(buffer.as_mut_ptr(), length) {
            // "Not found" comes in several ways, see the man page.
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(buffer),
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

    #[test]
    fn an_account_has_a_home_and_groups() {
        let root = user_named(c"root").unwrap().unwrap();
        assert_eq!((root.id, root.group), (0, 0));
        assert!(root.home.to_bytes().starts_with(b"/"), "{root:?}");
        assert_eq!(user_numbered(0).unwrap().unwrap().id, 0);
        assert_eq!(user_numbered(4_000_000_000).unwrap(), None);
        assert_eq!(groups_of(&root).unwrap().first(), Some(&0));
    }
}
