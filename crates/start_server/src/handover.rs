//! Going on in another image of the program: after an upgrade, and after a crash. The event loop writes its state down
//! here and reads it again; `main` comes here first when this process takes the place of another image.
//!
//! | file | holds |
//! |---|---|
//! | `state.rs` | the format, as it stands in the memory file |
//! | `descriptor.rs` | how descriptors are named in it, and found again |
//! | `unknown.rs` | what a newer program has written and this one does not know, and hands on |
//! | `agreement.rs` | what may change with an upgrade and what may not |
//! | `trial.rs` | the run of a program that is to take over, to see whether it can |

mod agreement;
pub mod descriptor;
pub mod state;
mod text;
mod trial;
mod unknown;

pub use agreement::agree;
pub use trial::{PATIENCE as TRIAL_PATIENCE, Trial, Verdict, answer_trial, config};
pub use unknown::Unknown;

use state::{FORMAT, State};

/// Reads a state, and what in it is not understood here but is to be handed on.
///
/// # Errors
/// A sentence: it is not a state, or was written by a program that is too new.
pub fn read(text: &[u8]) -> Result<(State, Unknown), String> {
    #[derive(serde::Deserialize)]
    struct Header {
        format: u32,
        needs: u32,
        version: String,
    }
    let nonsense = |error: serde_json::Error| format!("the state cannot be read: {error}");
    let header: Header = serde_json::from_slice(text).map_err(nonsense)?;
    if header.needs > FORMAT {
        return Err(format!(
            "the state is in format {} of start_server {}, and this program ({}) only knows formats up to {FORMAT}",
            header.format,
            header.version,
            env!("CARGO_PKG_VERSION")
        ));
    }
    let mut state: State = serde_json::from_slice(text).map_err(nonsense)?;
    // As this program would write them: what else stands there is not understood.
    state.listeners = write_raw(&listeners(&state)?)?;
    let understood = write(&state, &Unknown::default())?;
    let unknown = Unknown::of(text, &understood).map_err(nonsense)?;
    Ok((state, unknown))
}

/// Writes a state down, and with it what was handed on.
///
/// # Errors
/// None is expected: all of it can be written as JSON.
pub fn write(state: &State, unknown: &Unknown) -> Result<Vec<u8>, String> {
    // What is usual beside the listeners.
    const REST: usize = 4096;
    let mut text = Vec::with_capacity(state.listeners.get().len() + REST);
    serde_json::to_writer(&mut text, state).map_err(not_written)?;
    if unknown.is_empty() { Ok(text) } else { unknown.added_to(&text).map_err(not_written) }
}

/// Writes a part of the state down, once and for all.
///
/// # Errors
/// None is expected.
pub fn write_raw(part: &[state::Listener]) -> Result<Box<serde_json::value::RawValue>, String> {
    serde_json::value::to_raw_value(part).map_err(not_written)
}

fn not_written(error: serde_json::Error) -> String {
    format!("the state cannot be written down: {error}")
}

/// The listeners in a state.
///
/// # Errors
/// A sentence: what stands there is none.
pub fn listeners(state: &State) -> Result<Vec<state::Listener>, String> {
    serde_json::from_slice(state.listeners.get().as_bytes())
        .map_err(|error| format!("the state cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// States as programs have written them that are in use somewhere. They are never changed, only added to.
    const RECORDED: [&str; 2] = [
        include_str!("../tests/upgrade/states/format-1-running.json"),
        include_str!("../tests/upgrade/states/format-1-stopping.json"),
    ];

    #[test]
    fn every_format_is_read_for_ever() {
        for text in RECORDED {
            let (state, _) = read(text.as_bytes()).unwrap();
            assert_eq!((state.pid, state.command_line.len()), (4711, 13));
            assert_eq!(listeners(&state).unwrap().len(), 2);
            assert_eq!(state.control.unwrap().clients.len(), 3);
            assert_eq!(state.tally.restarts, 3);
        }
    }

    /// When this fails, the format has changed: add a state in the new one, and see `docs/state.md`.
    #[test]
    fn the_format_of_today_is_among_them() {
        for text in RECORDED {
            let recorded: Value = serde_json::from_str(text).unwrap();
            let (state, unknown) = read(text.as_bytes()).unwrap();
            assert!(unknown.is_empty());
            let written: Value = serde_json::from_slice(&write(&state, &unknown).unwrap()).unwrap();
            assert_eq!(written, recorded);
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for (text, why) in [
            ("", "the state cannot be read: EOF"),
            ("[1]", "the state cannot be read: "),
            ("{}", "the state cannot be read: missing field `format`"),
            (r#"{"format":9,"needs":9,"version":"2.0"}"#, "the state is in format 9 of start_server 2.0, and this"),
            (r#"{"format":9,"needs":1,"version":"2.0"}"#, "the state cannot be read: missing field"),
        ] {
            let error = read(text.as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
