# frozen_string_literal: true

require "io/wait"
require "minitest/autorun"
require "tempfile"

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "server/starter/resque_listener"
require "server/starter/unicorn_listener"

# Who is told what by new workers, with processes that stand in for masters and note what they are sent.
class PhaseOutTest < Minitest::Test
  # A stand-in for unicorn's own objects: no hook for readiness, as in old versions.
  Server = Struct.new(:worker_processes)
  Worker = Struct.new(:nr)
  Starter = Struct.new(:num_workers, :old_workers)
  # A stand-in for unicorn's as they are now.
  HookedServer = Class.new do
    attr_accessor :worker_processes
    attr_writer :after_worker_ready

    def initialize(worker_processes, &ready)
      @worker_processes = worker_processes
      @after_worker_ready = ready
    end

    def ready(worker) = @after_worker_ready.call(self, worker)
  end
  HookedWorker = Class.new do
    attr_reader :nr, :users

    def initialize(number) = (@nr = number) && @users = []
    def user(*names) = @users << names
  end

  def setup
    @masters = []
    @status = Tempfile.new("status")
    @generation = ENV["SERVER_STARTER_GENERATION"]
    ENV["SERVER_STARTER_GENERATION"] = "3"
  end

  def teardown
    ENV["SERVER_STARTER_GENERATION"] = @generation
    @masters.each { |master| [:CONT, :KILL].each { |name| Process.kill(name, master.pid) rescue nil } }
    @masters.each { |master| Process.wait(master.pid) rescue nil }
  end

  def test_each_worker_sends_ttou_and_the_last_sends_quit
    old = master
    status(2 => old)
    3.times do |number|
      slow_start(number, of: 3)
      old.received(number + 1) # signals of a kind that are pending together are merged
    end
    assert_equal %w[TTOU TTOU QUIT], old.signals
  end

  def test_resques_workers_do_the_same
    old = master
    status(2 => old)
    2.times do |number|
      ::Server::Starter::ResqueListener.graceful_restart(Starter.new(2, {}), Object.new, number, @status.path)
      old.received(number + 1)
    end
    assert_equal %w[TTOU QUIT], old.received(2)
  end

  def test_what_an_earlier_generation_has_left_behind_gets_the_last_quit_as_well
    oldest = master
    old = master
    status(1 => oldest, 2 => old, 3 => master, 4 => master)
    slow_start(0, of: 2)
    assert_equal %w[TTOU], old.received(1)
    slow_start(1, of: 2)
    assert_equal %w[QUIT], oldest.received(1)
    assert_equal %w[TTOU QUIT], old.received(2)
    @masters.drop(2).each { |other| assert_empty other.received(0) }
  end

  def test_a_master_that_has_gone_is_passed_over
    oldest = master
    gone = master
    Process.kill(:KILL, gone.pid)
    Process.wait(gone.pid)
    status(1 => oldest, 2 => gone)
    slow_start(0, of: 2)
    assert_equal %w[TTOU], oldest.received(1)
    slow_start(1, of: 2)
    assert_equal %w[TTOU QUIT], oldest.received(2)
  end

  def test_nothing_but_a_pid_is_signalled
    @status.write("2:0\n2:-1\n2:x\n2:\n:5\n2:1 2\n1\n\n2:#{Process.pid}\n2:#{Process.ppid}\n")
    @status.flush
    trap(:QUIT) { flunk }
    2.times { |number| slow_start(number, of: 2) }
  ensure
    trap(:QUIT, "DEFAULT")
  end

  def test_without_a_superdaemon_or_an_older_generation_nothing_is_said
    ["1", nil].each do |generation|
      ENV["SERVER_STARTER_GENERATION"] = generation
      assert_silent { slow_start(1, of: 2, status_file: "/no/such/file") }
    end
  end

  def test_a_status_file_that_cannot_be_read_is_reported
    ["/no/such/file", nil].each do |file|
      _, message = capture_io { slow_start(0, of: 2, status_file: file) }
      assert_match(/\Ageneration 3: cannot learn from the status file who the old master is/, message)
    end
  end

  def test_repeated_attempts_do_not_empty_the_old_master
    old = master(workers: 1) # of two; an earlier attempt has taken a place, and died
    status(1 => old)
    slow_start(0, of: 2)
    assert_empty old.received(0)
    slow_start(1, of: 2)
    assert_equal %w[QUIT], old.received(1)
  end

  def test_nothing_is_sent_before_the_worker_is_ready
    old = master
    status(2 => old)
    said = []
    server = HookedServer.new(1) { |_, worker| said << worker.nr }
    worker = HookedWorker.new(0)
    listener.slow_start(server, worker, @status.path)
    assert_empty old.received(0)
    server.ready(worker)
    assert_equal %w[QUIT], old.received(1)
    assert_equal [0], said
  end

  def test_it_is_sent_before_the_worker_gives_up_the_right_to
    old = master
    status(2 => old)
    worker = HookedWorker.new(0)
    server = HookedServer.new(2)
    listener.slow_start(server, worker, @status.path)
    worker.user("www", "www")
    assert_equal %w[TTOU], old.received(1)
    assert_equal [%w[www www]], worker.users
    server.ready(worker)
    assert_equal %w[TTOU], old.received(1)
  end

  def test_the_last_to_be_ready_sends_quit_whatever_its_number_and_how_often_others_were
    old = master
    status(2 => old)
    listener = self.listener
    with_sockets { listener.listen }
    [2, 2, 0, 0].zip([1, 1, 2, 2]) do |number, signals|
      listener.slow_start(Server.new(3), Worker.new(number), @status.path)
      old.received(signals)
    end
    assert_equal %w[TTOU TTOU], old.signals
    listener.slow_start(Server.new(3), Worker.new(1), @status.path)
    assert_equal %w[TTOU TTOU QUIT], old.received(3)
  end

  private

  # A listener without what others have noted.
  def listener
    Class.new(::Server::Starter::UnicornListener)
  end

  def slow_start(number, of:, status_file: @status.path)
    listener.slow_start(Server.new(of), Worker.new(number), status_file)
  end

  def with_sockets
    before = ENV.to_h
    ENV["SERVER_STARTER_PORT"] = "127.0.0.1:80=903"
    yield
  ensure
    ENV.replace(before)
  end

  def status(masters)
    masters.each { |generation, master| @status.puts("#{generation}:#{master.pid}") }
    @status.flush
  end

  # A process that notes the signals it gets, perhaps with forks of its own.
  def master(workers: 0)
    reader, writer = IO.pipe
    pid = fork do
      %i[TTOU QUIT].each { |name| trap(name) { writer.syswrite("#{name}\n") } }
      workers.times { fork { stay_with(Process.ppid) } }
      writer.syswrite("started\n")
      stay_with(Process.ppid)
    end
    writer.close
    reader.gets
    Master.new(pid, reader, []).tap { |it| @masters << it }
  end

  # Forks end with whoever has forked them.
  def stay_with(parent)
    sleep 0.02 while Process.ppid == parent
    exit!
  end

  Master = Struct.new(:pid, :reader, :signals) do
    # What it has been sent, once that is `count` signals.
    def received(count)
      signals << reader.gets.chomp while signals.size < count && reader.wait_readable(10)
      signals << reader.gets.chomp while reader.wait_readable(0)
      signals
    end
  end
end
