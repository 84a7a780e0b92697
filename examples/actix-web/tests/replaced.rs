//! The server, replaced under load and stopped with a request under way: nothing may be lost.

use testkit::http_server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_example-actix-web");

#[test]
fn replaced_under_start_server() {
    http_server::is_replaced_under_start_server(PROGRAM);
}

#[test]
fn replaced_under_socket_activation() {
    http_server::is_replaced_under_socket_activation(PROGRAM);
}

#[test]
fn stopped_alone_with_a_request_under_way() {
    http_server::finishes_the_request_under_way(PROGRAM);
}

#[test]
fn stopped_alone_beside_clients_that_say_nothing() {
    http_server::stops_beside_clients_that_say_nothing(PROGRAM);
}
