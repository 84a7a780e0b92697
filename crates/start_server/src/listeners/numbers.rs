//! The descriptors at which workers find the listeners: as the user has fixed them, the others one after the other.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

use super::ListenError;

/// A descriptor for each listener.
#[derive(Debug)]
pub struct Numbers {
    each: Vec<RawFd>,
    /// The lowest that is above all of them.
    above: RawFd,
}

impl Numbers {
    /// Those that are `fixed`, none of them twice, and for each of the others the next one that is free, from the `first` on.
    ///
    /// # Errors
    /// One that cannot be given.
    pub fn choose(fixed: impl Iterator<Item = Option<RawFd>> + Clone, first: RawFd) -> Result<Self, ListenError> {
        let taken: BTreeSet<RawFd> = fixed.clone().flatten().collect();
        if let Some(number) = taken.iter().find(|number| [1, 2].contains(*number)) {
            return Err(ListenError(format!(
                "dup2(2) failed({number}): this is the descriptor of the standard {}, which the program needs for its \
                 messages; choose 0, or 3 and above",
                if *number == 1 { "output" } else { "error output" }
            )));
        }
        let mut free = (first..).filter(|number| !taken.contains(number));
        let each: Vec<RawFd> = fixed.filter_map(|number| number.or_else(|| free.next())).collect();
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        match each.iter().find(|number| u64::try_from(**number).is_ok_and(|number| number >= limit)) {
            Some(number) => Err(ListenError(format!(
                "dup2(2) failed({number}): Bad file descriptor; the limit on open files (ulimit -n) is {limit}, so choose a \
                 descriptor below that or raise the limit"
            ))),
            None => Ok(Self { above: each.iter().max().map_or(first, |highest| highest.saturating_add(1)), each }),
        }
    }

    /// Each of them, in the order of the listeners.
    pub fn each(&self) -> impl Iterator<Item = RawFd> {
        self.each.iter().copied()
    }

    /// Moves a socket to the number that it has in the program, or if something else is there, above all of those: at
    /// each spawn, what is in its place already need not be moved.
    pub fn place(&self, socket: OwnedFd, number: RawFd) -> OwnedFd {
        if socket.as_raw_fd() == number {
            return socket;
        }
        match fcntl_dupfd_cloexec(&socket, number) {
            Ok(moved) if moved.as_raw_fd() == number => moved,
            _ => fcntl_dupfd_cloexec(&socket, self.above).unwrap_or(socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(fixed: &[Option<RawFd>], first: RawFd) -> Result<Vec<RawFd>, String> {
        let numbers = Numbers::choose(fixed.iter().copied(), first);
        numbers.map(|numbers| numbers.each).map_err(|error| error.to_string())
    }

    #[test]
    fn they_run_from_the_first_on_around_the_fixed_ones() {
        assert_eq!(chosen(&[None, Some(4), None, Some(0), None], 3), Ok(vec![3, 4, 5, 0, 6]));
        assert_eq!(chosen(&[None, Some(3), None], 50), Ok(vec![50, 3, 51]));
        assert_eq!(chosen(&[], 3), Ok(vec![]));
    }

    #[test]
    fn those_that_cannot_be_given_are_refused() {
        for number in [1, 2, 99_999_999, i32::MAX] {
            let text = chosen(&[Some(number)], 3).unwrap_err();
            assert!(text.starts_with(&format!("dup2(2) failed({number}): ")), "{text}");
        }
        assert!(chosen(&[Some(99_999_999)], 3).unwrap_err().contains(": Bad file descriptor"));
    }
}
