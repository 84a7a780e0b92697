//! The real machine, whose place is taken by another one after every step: its memory is written down and read again, as
//! when the program replaces itself.

use super::machine::Machine;
use crate::{Action, Event, Instant, Memory, Pid, Policy, Settings, Supervisor};

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Rewritten {
    policy: Policy,
    settings: Settings,
    supervisor: Supervisor,
}

impl Rewritten {
    pub fn new(policy: &Policy, settings: &Settings) -> Self {
        let supervisor = Supervisor::new(policy.clone(), settings.clone());
        Self { policy: policy.clone(), settings: settings.clone(), supervisor }
    }
}

impl Machine for Rewritten {
    fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        if let Event::Settings(settings) = &event {
            self.settings = settings.clone();
        }
        let actions = self.supervisor.handle(now, event);
        let text = serde_json::to_string(self.supervisor.memory()).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        let successor = Supervisor::resume(self.policy.clone(), self.settings.clone(), memory);
        assert_eq!(successor, self.supervisor, "{text}");
        self.supervisor = successor;
        actions
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.supervisor.next_deadline()
    }

    fn workers(&self) -> Vec<Pid> {
        Machine::workers(&self.supervisor)
    }
}
