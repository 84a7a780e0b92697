# frozen_string_literal: true

require "minitest/autorun"
require_relative "application"
require_relative "load"

# What the tests of real servers have in common: an application that is started, put under load, and always ended.
# They mostly wait, so they run at the same time.
class ServerTest < Minitest::Test
  RESTARTS = 20

  def setup
    @applications = []
  end

  def teardown
    @applications.each(&:clean_up)
  end

  def application(example)
    Application.new(example).tap { |application| @applications << application }
  end

  # Starts the application, and waits until it answers.
  def serve(application, *command)
    application.start(*command)
    await_answer(application)
  end

  def await_answer(application, address = application.address)
    application.wait_until("#{address} answers") { Load.request(address) rescue nil }
  end

  def await_generation(application, generation)
    application.wait_until("generation #{generation} is the only one") { application.generations.keys == [generation] }
  end

  def assert_nothing_failed(result)
    assert_empty result["failures"], "of #{result['ok'] + result['failures'].size} requests"
    assert_operator result["ok"], :>, 0
  end

  # Stops, and checks that nothing remains: no process, and none of the superdaemon's files.
  def assert_stops(application)
    status = application.stop
    assert status.success?, "#{status}\n#{application.output}"
    assert_empty application.left_over.map { |pid| Processes.command(pid) }
    refute_path_exists application.status_file
    refute_path_exists application.path("log/start_server.pid")
  end

  def report(text)
    $stderr.puts "\n  #{text}"
  end
end
