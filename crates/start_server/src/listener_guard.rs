//! What guards the listeners against what servers do to them: the sockets and their files are shared by all
//! generations, so whatever one server does to them hurts the next. `event_loop/guards.rs` decides by these parts when
//! to look and what to say.

mod accept_watch;
mod accepted;
mod kept_name;
mod listener_watch;
mod shared_socket;
mod turned;

pub use accept_watch::{AcceptWatch, Verdict};
pub use accepted::hold_accepted;
pub use kept_name::{FileState, KeptName};
pub use listener_watch::{ListenerWatch, Sight};
pub use shared_socket::{Queues, SharedSocket};
pub use turned::{Facts, Moment, Turned, accepted, deed, put_back, restored};
