//! What the kernel's error numbers mean, in the words of strerror(3) and without the number that std adds. For every
//! message that ends in the reason of a failed system call.

use std::io;

/// The words for an errno(3).
pub fn reason(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.rsplit_once(" (os error ").map_or(text.clone(), |(words, _)| words.to_owned())
}

/// The words for an error of std, which need not come from the kernel.
pub fn io_reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_numbers() {
        assert_eq!(reason(2), "No such file or directory");
        assert_eq!(io_reason(&io::Error::from_raw_os_error(28)), "No space left on device");
        assert_eq!(io_reason(&io::Error::other("it is broken")), "it is broken");
    }
}
