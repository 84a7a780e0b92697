# frozen_string_literal: true

require "minitest/autorun"

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "server/starter"
require "server/starter/puma_listener"
require "server/starter/unicorn_listener"

# What the listeners make of SERVER_STARTER_PORT.
class ListenersTest < Minitest::Test
  SOCKETS = "127.0.0.1:8080=903;8081=904;[::1]:8082=905;/run/a b.sock=906;/run/c=d;e:80=907;run/f=908"

  def setup
    @environment = ENV.to_h
  end

  def teardown
    ENV.replace(@environment)
  end

  def test_without_a_superdaemon_the_listeners_return_nil
    ENV.delete("SERVER_STARTER_PORT")
    assert_nil Server::Starter::UnicornListener.listen
    assert_nil Server::Starter::PumaListener.listen
    refute ENV.key?("UNICORN_FD")
  end

  def test_unicorn_gets_all_descriptors
    ENV["SERVER_STARTER_PORT"] = SOCKETS
    assert_equal "903,904,905,906,907,908", Server::Starter::UnicornListener.listen
    assert_equal "903,904,905,906,907,908", ENV["UNICORN_FD"]
  end

  def test_puma_gets_an_address_and_a_descriptor_for_each_socket
    ENV["SERVER_STARTER_PORT"] = SOCKETS
    sockets = Server::Starter::PumaListener.listen
    assert_equal [
      { fd: "903", url: "tcp://127.0.0.1:8080" }, { fd: "904", url: "tcp://0.0.0.0:8081" },
      { fd: "905", url: "tcp://[::1]:8082" }, { fd: "906", url: "unix:///run/a%20b.sock" },
      { fd: "907", url: "unix:///run/c=d;e:80" }, { fd: "908", url: "unix://run/f" }
    ], sockets
    assert_equal sockets.map { |it| "#{it[:fd]}:#{it[:url]}" }, (0..5).map { |index| ENV["PUMA_INHERIT_#{index}"] }
  end

  def test_server_ports_maps_names_to_descriptors
    ENV["SERVER_STARTER_PORT"] = "127.0.0.1:8080=3;/run/a=b.sock=4"
    assert_equal({ "127.0.0.1:8080" => "3", "/run/a=b.sock" => "4" }, Server::Starter.new.server_ports)
    ENV["SERVER_STARTER_PORT"] = ""
    assert_empty Server::Starter.new.server_ports
  end

  def test_server_ports_ends_the_process_without_a_superdaemon
    ENV.delete("SERVER_STARTER_PORT")
    _, message = capture_io { assert_equal 1, assert_raises(SystemExit) { Server::Starter.new.server_ports }.status }
    assert_match(/no environment variable SERVER_STARTER_PORT/, message)
  end
end
