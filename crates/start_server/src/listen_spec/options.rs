//! How to listen: what can be said of all listeners, by options of their own, or of one, after its address in
//! `--listen`. The command line calls the parsers; `listeners` applies the result.

use std::time::Duration;

/// How to listen. What is `None` was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenOptions {
    /// The length of the accept queue, in connections.
    pub backlog: Option<u32>,
    /// `TCP_DEFER_ACCEPT`, see tcp(7): connections are accepted once they have sent something, or after so many seconds;
    /// 0 is off.
    pub defer_accept: Option<u32>,
    /// `TCP_NODELAY`, which accepted connections inherit.
    pub tcp_nodelay: Option<bool>,
    /// `O_NONBLOCK` on the listener. All generations share it.
    pub nonblock: Option<bool>,
    /// Whether an IPv6 listener is for IPv6 only.
    pub v6only: Option<bool>,
    /// `SO_REUSEPORT`: others may listen on the port too, see socket(7).
    pub reuseport: Option<bool>,
    /// `SO_KEEPALIVE`, which accepted connections inherit.
    pub keepalive: Option<KeepAlive>,
    /// `TCP_FASTOPEN`: as many connections may have sent data before they are established; 0 is off.
    pub fastopen: Option<u32>,
    /// The permissions of the file of a unix socket.
    pub mode: Option<u32>,
    /// Who owns it.
    pub owner: Option<Account>,
    /// Its group.
    pub group: Option<Account>,
}

/// Whether connections that are silent are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// They are not.
    Off,
    /// They are, after the system's time of silence, which is two hours.
    On,
    /// They are, after so long. Whole seconds, at least one.
    After(Duration),
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// By number.
    Id(u32),
    /// By name. Never empty.
    Name(String),
}

impl ListenOptions {
    /// These options, and where they say nothing those.
    #[must_use]
    pub fn or(self, those: &Self) -> Self {
        Self {
            backlog: self.backlog.or(those.backlog),
            defer_accept: self.defer_accept.or(those.defer_accept),
            tcp_nodelay: self.tcp_nodelay.or(those.tcp_nodelay),
            nonblock: self.nonblock.or(those.nonblock),
            v6only: self.v6only.or(those.v6only),
            reuseport: self.reuseport.or(those.reuseport),
            keepalive: self.keepalive.or(those.keepalive),
            fastopen: self.fastopen.or(those.fastopen),
            mode: self.mode.or(those.mode),
            owner: self.owner.or_else(|| those.owner.clone()),
            group: self.group.or_else(|| those.group.clone()),
        }
    }
}

/// SOMAXCONN of today's kernels, which cap the backlog at `net.core.somaxconn` anyway.
pub const DEFAULT_BACKLOG: u32 = 4096;
/// The time after which a deferred connection is accepted although it has sent nothing, unless said otherwise. It is
/// what the servers that set the option themselves use.
const DEFER_SECONDS: u32 = 1;
/// The queue of fast opens, unless said otherwise.
const FASTOPEN_QUEUE: u32 = 256;

/// `yes` or `no`.
///
/// # Errors
/// What was expected, in words.
pub fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no expected"),
    }
}

/// The length of an accept queue.
///
/// # Errors
/// What was expected, in words.
pub fn parse_backlog(text: &str) -> Result<u32, &'static str> {
    // listen(2) takes an int.
    number_up_to(text, i32::MAX.unsigned_abs()).ok_or("number from 0 to 2147483647 expected")
}

/// `yes`, `no`, or seconds.
///
/// # Errors
/// What was expected, in words.
pub fn parse_defer_accept(text: &str) -> Result<u32, &'static str> {
    const LONGEST: u32 = 3600;
    match text {
        "yes" => Ok(DEFER_SECONDS),
        "no" => Ok(0),
        text => number_up_to(text, LONGEST).ok_or("yes, no or whole seconds up to 3600 expected"),
    }
}

/// `yes`, `no`, or seconds.
///
/// # Errors
/// What was expected, in words.
pub fn parse_keepalive(text: &str) -> Result<KeepAlive, &'static str> {
    // The kernel's MAX_TCP_KEEPIDLE.
    const LONGEST: u32 = 32767;
    match text {
        "yes" => Ok(KeepAlive::On),
        "no" | "0" => Ok(KeepAlive::Off),
        text => number_up_to(text, LONGEST)
            .map(|seconds| KeepAlive::After(Duration::from_secs(seconds.into())))
            .ok_or("yes, no or whole seconds up to 32767 expected"),
    }
}

/// `yes`, `no`, or the length of the queue.
///
/// # Errors
/// What was expected, in words.
pub fn parse_fastopen(text: &str) -> Result<u32, &'static str> {
    match text {
        "yes" => Ok(FASTOPEN_QUEUE),
        "no" => Ok(0),
        text => number_up_to(text, u16::MAX.into()).ok_or("yes, no or a number up to 65535 expected"),
    }
}

/// Permissions in octal digits.
pub(super) fn parse_mode(text: &str) -> Result<u32, &'static str> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(mode),
        _ => Err("octal permissions up to 0777 expected"),
    }
}

/// A name, or a number.
///
/// # Errors
/// What was expected, in words.
pub fn parse_account(text: &str) -> Result<Account, &'static str> {
    match text.parse() {
        // What parses is not always what somebody would type: `+5`.
        _ if text.is_empty() || text.starts_with('+') => Err("name or number expected"),
        // The highest one means "leave it" to chown(2).
        Ok(u32::MAX) => Err("name or number expected"),
        Ok(id) => Ok(Account::Id(id)),
        Err(_) => Ok(Account::Name(text.to_owned())),
    }
}

fn number_up_to(text: &str, limit: u32) -> Option<u32> {
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| only_digits && *number <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read() {
        assert_eq!((parse_switch("yes"), parse_switch("no")), (Ok(true), Ok(false)));
        assert_eq!(["yes", "no", "0", "7", "3600"].map(parse_defer_accept), [1, 0, 0, 7, 3600].map(Ok));
        assert_eq!(["yes", "no", "0", "16"].map(parse_fastopen), [256, 0, 0, 16].map(Ok));
        let after = KeepAlive::After(Duration::from_secs(60));
        assert_eq!(["yes", "no", "60"].map(parse_keepalive), [KeepAlive::On, KeepAlive::Off, after].map(Ok));
        assert_eq!(["0660", "777", "0"].map(parse_mode), [0o660, 0o777, 0].map(Ok));
        assert_eq!(parse_account("33"), Ok(Account::Id(33)));
        assert_eq!(parse_account("www-data"), Ok(Account::Name("www-data".into())));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "maybe", "-1", "+1", "1s", "99999999999", "3601000"] {
            assert!(parse_switch(text).is_err() && parse_defer_accept(text).is_err(), "{text}");
            assert!(parse_fastopen(text).is_err() && parse_keepalive(text).is_err(), "{text}");
        }
        for text in ["", "8", "1000", "rw", "+7", "-7"] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
        assert!(parse_account("").is_err() && parse_account("4294967295").is_err());
        assert!(parse_backlog("2147483648").is_err());
    }

    #[test]
    fn what_one_does_not_say_the_other_does() {
        let one = ListenOptions { backlog: Some(5), nonblock: Some(false), ..ListenOptions::default() };
        let other = ListenOptions { backlog: Some(9), mode: Some(0o600), nonblock: Some(true), ..one.clone() };
        let both = one.or(&other);
        assert_eq!((both.backlog, both.nonblock, both.mode, both.fastopen), (Some(5), Some(false), Some(0o600), None));
    }
}
