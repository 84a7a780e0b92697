//! The scenarios: what is done to a superdaemon, and what is worth noting on the way. Each module has one topic.

mod delays;
mod environment;
mod failures;
mod files;
mod restarts;
mod sockets;
mod stops;
mod verbs;

use crate::stage::Stage;

/// A scenario: a name, and what is played. A scenario that gets stuck panics.
pub struct Scenario {
    /// As it stands in the table of deviations.
    pub name: &'static str,
    /// The play.
    pub play: fn(&mut Stage),
}

macro_rules! scenarios {
    ($($module:ident: $($name:ident)+;)+) => {
        [$($(Scenario { name: stringify!($name), play: $module::$name }),+),+]
    };
}

/// All of them. Those that take longest come first, so that they are not what is waited for at the end.
pub fn all() -> impl IntoIterator<Item = Scenario> {
    scenarios! {
        delays: forced_auto_restart auto_restart auto_restart_with_its_own_delay term_in_the_kill_old_delay
            kill_old_delay_by_option kill_old_delay_by_environment kill_old_delay_by_envdir
            option_beats_environment envdir_beats_option zero_delay;
        failures: first_start_fails_twice restart_fails_twice restart_fails_by_signal
            current_dies_by_exit current_dies_by_signal old_dies_while_a_restart_fails
            new_worker_dies_in_the_kill_old_delay term_while_the_first_start_fails term_while_a_restart_fails
            program_missing_at_first program_missing_at_a_restart
            directory_missing_at_a_restart;
        restarts: restart restart_of_a_restarted_one restart_under_load hup_in_the_interval three_quick_hups
            burst_of_hups interval_of_zero signal_on_hup signal_names_are_normalised signal_by_number
            old_worker_ignores_its_signal signals_without_effect many_old_generations;
        stops: stop_by_term stop_by_int int_never_sends_the_signal_for_term term_in_the_first_interval
            term_in_the_interval_of_a_restart second_term_changes_nothing worker_exits_with_a_status;
        environment: what_a_worker_is_given what_the_caller_left working_directory envdir_changes envdir_file_is_removed envdir_edge_cases envdir_sets_the_path
            options_are_exported auto_restart_is_exported inherited_variables no_sockets;
        sockets: stale_unix_socket path_in_a_missing_directory several_ports_and_paths requested_descriptor udp
            ipv6 ipv6_without_brackets backlog port_in_use bad_port_value ports_in_a_list unknown_host unix_socket_of_any_umask;
        files: pid_file_is_removed_by_somebody pid_file_exists status_file_at_each_moment no_files_asked_for
            log_file log_file_cannot_be_opened log_command daemonize daemonize_needs_a_log_file no_program unknown_option;
        verbs: restart_verb stop_verb verbs_of_the_other_program restart_verb_without_files
            stop_verb_without_pid_file stop_verb_with_stale_pid_file;
    }
}
