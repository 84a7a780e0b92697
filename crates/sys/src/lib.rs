//! The Linux facilities that start_server needs and that no well-kept library wraps safely: signals taken by
//! descriptor, processes with exactly the descriptors they were promised, and the way into the background.
//! The program has no `unsafe` but here; of the workspace, `server-starter` has some too.

pub mod accept_probe;
pub mod accounts;
pub mod answering;
pub mod apart;
pub mod background;
pub mod children;
pub mod credentials;
pub mod file_locks;
pub mod file_mode;
pub mod idle_memory;
pub mod inet_sockets;
pub mod listen_queue;
pub mod passed_descriptors;
pub mod process_tree;
pub mod reexec;
pub mod shared_options;
pub mod signal;
mod socket_diag;
pub mod spawn;
pub mod tcp_options;
pub mod tcp_signatures;
pub mod unix_file;
pub mod unix_queue;
pub mod unix_table;
pub mod waiting_clients;

// The unwinder, which the standard library needs for backtraces, out of the compiler's archive: else every start would
// load and relocate libgcc_s.so for it, and an image with nothing but the C library could not run the program. Where
// the objects are not linked as one, as in a debug build, that library is loaded after all.
#[cfg(target_env = "gnu")]
#[link(name = "gcc_eh")]
unsafe extern "C" {}
