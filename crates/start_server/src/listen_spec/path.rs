//! The value of `--path`: paths of unix sockets.
//! The command line calls [`parse_paths`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{LONGEST_PATH, ListenAddress, ListenOptions, ListenSpec, ListenSpecError, UnixAddress, Why};

/// Reads the value of one `--path`: a path, or several with commas between them. A path may hold any other character.
///
/// # Errors
///
/// A path that is empty or too long for a unix socket.
pub fn parse_paths(value: &OsStr) -> Result<Vec<ListenSpec>, ListenSpecError> {
    value.as_bytes().split(|byte| *byte == b',').map(|path| parse_path(OsStr::from_bytes(path))).collect()
}

fn parse_path(path: &OsStr) -> Result<ListenSpec, ListenSpecError> {
    match check_path(path) {
        Ok(path) => Ok(ListenSpec {
            spelling: path.clone().into(),
            name: None,
            address: ListenAddress::Unix(UnixAddress::Path(path)),
            descriptor: None,
            options: ListenOptions::default(),
        }),
        Err(why) => Err(ListenSpecError { option: "path", value: path.to_owned(), why }),
    }
}

/// A path that a unix socket can be bound to.
pub(super) fn check_path(path: &OsStr) -> Result<PathBuf, Why> {
    match path.len() {
        0 => Err(Why::EmptyPath),
        1..=LONGEST_PATH => Ok(PathBuf::from(path)),
        length => Err(Why::PathTooLong { length }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    #[test]
    fn paths_are_read() {
        let longest = format!("/{}", "x".repeat(LONGEST_PATH - 1));
        for (value, expected) in [
            ("/p/s.sock", "/p/s.sock -> unix /p/s.sock".to_owned()),
            ("./s", "./s -> unix ./s".to_owned()),
            ("/a,/b", "/a -> unix /a; /b -> unix /b".to_owned()),
            ("/d/a=b", "/d/a=b -> unix /d/a=b".to_owned()),
            ("/d/a;b", "/d/a;b -> unix /d/a;b".to_owned()),
            (" /a ", " /a  -> unix  /a ".to_owned()),
            (&longest, format!("{longest} -> unix {longest}")),
        ] {
            assert_eq!(summary(parse_paths(OsStr::new(value))), expected, "{value:?}");
        }
        let odd = OsStr::from_bytes(b"/s\xff");
        assert_eq!(parse_paths(odd).map(|specs| specs[0].spelling.clone()), Ok(odd.to_owned()));
    }

    #[test]
    fn wrong_paths_are_refused() {
        let too_long = "x".repeat(LONGEST_PATH + 1);
        for (value, expected) in [
            ("", "error: invalid ``path'' value:: expected the path"),
            ("/a,", "expected the path"),
            ("/a,,/b", "expected the path"),
            (&too_long, "the limit for unix sockets; this one has 108"),
        ] {
            let text = summary(parse_paths(OsStr::new(value)));
            assert!(text.starts_with("error: ") && text.contains(expected), "{value:?} gave {text}");
        }
    }
}
