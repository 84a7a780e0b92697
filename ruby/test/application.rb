# frozen_string_literal: true

# A copy of one of the examples in a directory of its own, run by its own command line with real Bundler under a real
# superdaemon. Used by the tests of the servers.

require "fileutils"
require "open3"
require "securerandom"
require "socket"
require "tmpdir"
require_relative "processes"

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "server/starter/program"

class Application
  RUBY_DIRECTORY = File.expand_path("..", __dir__)
  PROGRAM = Server::Starter::Program.path(ENV)
  # Every process started for a test has this in its environment, with a value of the test's own.
  MARK = "START_SERVER_TEST"

  # What `bundle install` would do, once for all tests: executables of the gem where Bundler finds them.
  # (The whole bundle cannot be "installed": Debian's gems are where they are, and are only used.)
  GEM_HOME = Dir.mktmpdir("start-server-gems").tap do |directory|
    Minitest.after_run { FileUtils.rm_rf(directory) }
    gemfile = File.join(directory, "Gemfile")
    File.write(gemfile, "gem 'server-starter', path: #{RUBY_DIRECTORY.inspect}\n" \
                        "gem 'resque_starter', path: #{File.join(__dir__, 'job_runner').inspect}\n")
    environment = { "GEM_HOME" => directory, "BUNDLE_GEMFILE" => gemfile, "BUNDLE_SILENCE_ROOT_WARNING" => "1" }
    output, status = Open3.capture2e(environment, "bundle", "install", "--local", chdir: directory)
    raise "bundle install failed:\n#{output}" unless status.success?
  end

  attr_reader :directory, :environment, :pid, :mark

  def initialize(example)
    @root = Dir.mktmpdir("start-server-#{example}")
    @directory = File.join(@root, "ruby/examples", example)
    FileUtils.mkdir_p(File.dirname(@directory))
    FileUtils.cp_r(File.join(RUBY_DIRECTORY, "examples", example), @directory)
    %w[bin lib server-starter.gemspec].each { |name| FileUtils.ln_s(File.join(RUBY_DIRECTORY, name), "#{@root}/ruby") }
    @mark = SecureRandom.hex(8)
    @environment = {
      MARK => @mark, "START_SERVER" => PROGRAM, "PORT" => "127.0.0.1:#{Application.free_port}",
      "PATH" => "#{GEM_HOME}/bin:#{ENV['PATH']}",
      "GEM_PATH" => [GEM_HOME, *Gem.default_path].join(":")
    }
  end

  def self.free_port
    TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
  end

  def address
    environment["PORT"]
  end

  def path(name)
    File.join(directory, name)
  end

  # Replaces what the block is given, the content of one of the example's files, by what it returns.
  def edit(name)
    File.write(path(name), yield(File.exist?(path(name)) ? File.read(path(name)) : ""))
  end

  # Runs the example's own command, or another one.
  def start(*command)
    command = ["./start_server"] if command.empty?
    @pid = spawn(environment, *command, chdir: directory, %i[out err] => [path("output"), "a"], in: File::NULL,
                                        pgroup: true)
  end

  def run(*command)
    Open3.capture2e(environment, *command, chdir: directory)
  end

  def output
    File.read(path("output"))
  end

  def status_file
    path("log/start_server.stat")
  end

  # { generation => PID of its master } as the status file has it.
  def generations
    File.readlines(status_file).to_h { |line| line.chomp.split(":").map(&:to_i) }
  rescue Errno::ENOENT
    {}
  end

  def hup
    Process.kill(:HUP, pid)
  end

  # Restarts, and returns when nothing of the old generation is left.
  def restart(*command)
    command = [PROGRAM] if command.empty?
    text, status = run(*command, "--restart", "--timeout=60", "--pid-file=log/start_server.pid")
    raise "restart failed: #{status}\n#{text}\n#{output}" unless status.success?
  end

  # Waits for an event, generously; the machine may be busy.
  def wait_until(what, seconds: 60)
    deadline = now + seconds
    until (result = yield)
      raise "waited in vain until #{what}; the output is\n#{output}" if now > deadline

      sleep 0.01
    end
    result
  end

  # Stops the superdaemon as an operator would; returns its status.
  def stop
    Process.kill(:TERM, pid)
    status = wait_for_end
    @pid = nil
    status
  end

  # PIDs of what the test has started and has not ended, but for the caller.
  def left_over
    Processes.with_environment("#{MARK}=#{mark}")
  end

  # Ends whatever is left, also after a failed test.
  def clean_up
    if pid
      Process.kill(:QUIT, pid) rescue nil # the superdaemon kills its workers, with all that descends from them
      wait_for_end rescue nil
    end
    left_over.each { |process| Process.kill(:KILL, process) rescue nil }
    FileUtils.rm_rf(@root)
  end

  private

  def wait_for_end
    wait_until("the superdaemon has ended") { Process.wait2(pid, Process::WNOHANG) }.last
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
