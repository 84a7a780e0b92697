//! What has to outlive a superdaemon that is killed: the number of the last generation. It stands in a file without a
//! name (`memfd_create(2)`), which the service manager keeps with the listeners and passes to the next superdaemon. It
//! is written in place, so the manager need not be told of changes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};

/// More than we ever write.
const LONGEST: usize = 4096;

/// The file.
#[derive(Debug)]
pub struct Memory {
    file: File,
    last_generation: u32,
}

impl Memory {
    /// A memory of nothing.
    ///
    /// # Errors
    /// Those of `memfd_create(2)`.
    pub fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("start_server", MemfdFlags::CLOEXEC)?);
        let memory = Self { file, last_generation: 0 };
        memory.write(0)?;
        Ok(memory)
    }

    /// What another superdaemon remembered.
    ///
    /// # Errors
    /// It is no such file, or holds something else.
    pub fn read(descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        let mut text = vec![0; LONGEST];
        let length = file.read_at(&mut text, 0)?;
        text.truncate(length);
        let content: Value = serde_json::from_slice(&text)?;
        let last_generation = content.get("last_generation").and_then(Value::as_u64);
        let last_generation = last_generation.and_then(|number| u32::try_from(number).ok());
        let last_generation = last_generation.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { file, last_generation })
    }

    /// The number of the last generation, 0 if there was none.
    pub fn last_generation(&self) -> u32 {
        self.last_generation
    }

    /// Remembers another one.
    ///
    /// # Errors
    /// No memory.
    pub fn set_last_generation(&mut self, number: u32) -> io::Result<()> {
        self.last_generation = number;
        self.write(number)
    }

    /// One write, which never makes the text shorter: whoever reads it finds this number or the one before.
    fn write(&self, number: u32) -> io::Result<()> {
        let text = json!({ "version": 1, "last_generation": number }).to_string();
        self.file.write_all_at(text.as_bytes(), 0)
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(memory: &Memory) -> io::Result<Memory> {
        Memory::read(memory.as_fd().try_clone_to_owned().unwrap())
    }

    #[test]
    fn what_is_remembered_is_read_again() {
        let mut memory = Memory::new().unwrap();
        assert_eq!(again(&memory).unwrap().last_generation(), 0);
        for number in [1, 9, 10, u32::MAX] {
            memory.set_last_generation(number).unwrap();
            assert_eq!(again(&memory).unwrap().last_generation(), number);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "{", "7", r#"{"version":1}"#, r#"{"last_generation":-1}"#, r#"{"last_generation":4294967296}"#]
        {
            let memory = Memory::new().unwrap();
            memory.file.set_len(0).unwrap();
            memory.file.write_all_at(text.as_bytes(), 0).unwrap();
            assert!(again(&memory).is_err(), "{text}");
        }
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Memory::read(socket.into()).is_err());
    }
}
