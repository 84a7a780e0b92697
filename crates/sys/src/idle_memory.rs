//! Giving back the memory that nobody needs while nothing happens. A superdaemon starts and restarts, with nearly all of
//! its code, and then waits for days: the event loop calls this when it comes to rest.

use std::ffi::{c_int, c_void};
use std::ptr;

use libc::{dl_iterate_phdr, dl_phdr_info, size_t};

/// Gives back what is free on the heap, and all pages of the program and its libraries that nobody can write to. Those
/// that are needed again are still in the page cache: the kernel maps them when they are touched, some at a time.
///
/// Nothing depends on it, so nothing is told if the kernel refuses.
pub fn give_back() {
    // SAFETY: frees nothing that is in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    // SAFETY: the callback has the right type, keeps none of its arguments and does not unwind.
    unsafe { dl_iterate_phdr(Some(give_back_object), ptr::null_mut()) };
}

/// One object: the program, or a library.
unsafe extern "C" fn give_back_object(object: *mut dl_phdr_info, _: size_t, _: *mut c_void) -> c_int {
    // SAFETY: the loader gives a valid structure, whose headers are as many as it says and live as long as the object.
    let (base, headers) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    let page = rustix::param::page_size();
    let mut range: Option<(usize, usize)> = None;
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let place = (usize::try_from(base), usize::try_from(header.p_vaddr), usize::try_from(header.p_filesz));
        let (Ok(base), Ok(offset), Ok(size)) = place else { continue };
        let address = base.wrapping_add(offset);
        // The mapping begins and ends with a page.
        let (begin, end) = (address - address % page, address.wrapping_add(size).next_multiple_of(page));
        range = match range {
            Some((first, last)) if last == begin => Some((first, end)),
            other => {
                // SAFETY: they are of segments without PF_W.
                unsafe { give_back_range(other) };
                Some((begin, end))
            }
        };
    }
    // SAFETY: as above.
    unsafe { give_back_range(range) };
    0
}

/// # Safety
/// These must be pages of adjacent segments that nobody can write to.
unsafe fn give_back_range(range: Option<(usize, usize)>) {
    let Some((begin, end)) = range else { return };
    // SAFETY: nobody has ever written to these pages, not even the loader, which is told by the missing PF_W: they are
    // the file's, and are found in it again, as after the kernel has taken them because memory was scarce. Where the
    // segment is no mapping of a file, as that of the vDSO, the kernel refuses.
    unsafe { libc::madvise(ptr::without_provenance_mut(begin), end.saturating_sub(begin), libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is mapped of this program's file, not written to, in kB.
    fn resident() -> u64 {
        let program = std::env::current_exe().unwrap();
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut ours = false;
        let mut sum = 0;
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("Rss:") if ours => sum += words.next().unwrap().parse::<u64>().unwrap(),
                Some(word) if word.ends_with(':') => {}
                _ => ours = line.ends_with(program.to_str().unwrap()) && line.contains(" r-"),
            }
        }
        sum
    }

    #[test]
    fn the_program_goes_on_with_less() {
        // Whatever the other tests map meanwhile.
        let text: Vec<String> = (0..1000).map(|number| format!("{number}")).collect();
        let shrinks = (0..100).any(|_| {
            let before = resident();
            give_back();
            resident() < before
        });
        assert!(shrinks, "{} kB", resident());
        assert!(text.iter().enumerate().all(|(number, text)| *text == number.to_string()));
    }
}
