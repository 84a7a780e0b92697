# frozen_string_literal: true

require_relative "server_test"

# The example of unicorn with slow_start, and what may go wrong during it.
class UnicornTest < ServerTest
  parallelize_me!

  WORKERS = 2 # as in the example's configuration

  def setup
    super
    @app = application("unicorn")
  end

  def test_the_example_is_restarted_under_load_and_never_has_fewer_workers_than_before
    serve(@app)
    await_workers(1, WORKERS)
    fewest = nil
    result = Load.on(@app.address) do
      fewest = fewest_workers_during do
        @app.restart("bundle", "exec", "start_server.rb")
        (RESTARTS - 1).times { @app.restart }
      end
    end
    assert_nothing_failed(result)
    assert_equal RESTARTS + 1, result["generations"].last
    assert_operator fewest, :>=, WORKERS
    report "unicorn: #{RESTARTS} restarts, #{result['ok']} requests, 0 failed, never fewer than #{fewest} workers"
    assert_stops(@app)
  end

  def test_without_a_superdaemon_the_configuration_listens_by_itself
    @app.start("bundle", "exec", "unicorn", "-c", "config/unicorn.conf.rb", "config.ru")
    assert_match(/\Ageneration  pid/, await_answer(@app))
    assert @app.stop.success?
    refute_match(/status file/, @app.output)
  end

  def test_workers_may_be_ready_before_the_superdaemon_counts_their_master_as_started
    @app.edit("config/unicorn.conf.rb") { |text| text.sub(/^  sleep 1$/, "") }
    serve(@app)
    await_workers(1, WORKERS)
    result = Load.on(@app.address) { 3.times { @app.restart } }
    assert_nothing_failed(result)
    assert_equal 4, result["generations"].last
    assert_stops(@app)
  end

  def test_when_the_status_file_has_been_removed_the_old_master_is_found_all_the_same
    serve(@app)
    await_workers(1, WORKERS)
    result = Load.on(@app.address) do
      old = @app.generations.fetch(1)
      # Kept away, by a directory in its place, so that the superdaemon cannot write it again either.
      File.unlink(@app.status_file)
      Dir.mkdir(@app.status_file)
      File.write(File.join(@app.status_file, "x"), "")
      @app.hup
      @app.wait_until("the old master has gone") { !Processes.alive?(old) }
    end
    assert_nothing_failed(result)
    assert_equal [1, 2], result["generations"]
    assert_match(/cannot learn from the status file/, @app.output)
  end

  def test_when_the_old_master_has_gone_the_new_workers_start_all_the_same
    serve(@app)
    await_workers(1, WORKERS)
    old = @app.generations.fetch(1)
    @app.hup
    @app.wait_until("the new master runs") { masters.size > 1 }
    Process.kill(:KILL, old)
    await_generation(@app, 2)
    await_workers(2, WORKERS)
    refute_match(/ERROR|Errno/, @app.output)
    assert_equal 2, Load.generation(@app.wait_until("generation 2 answers") { answer_of(2) })
  end

  def test_restarts_that_overlap_leave_one_generation
    serve(@app)
    await_workers(1, WORKERS)
    result = Load.on(@app.address) do
      [2, 3].each do |generation|
        @app.hup
        # It counts as started, and its workers are still being forked.
        @app.wait_until("generation #{generation} runs") { @app.generations.key?(generation) }
      end
      await_generation(@app, 3)
      await_workers(3, WORKERS)
    end
    assert_nothing_failed(result)
    assert_stops(@app)
  end

  def test_when_the_new_master_dies_half_way_the_old_one_serves_until_another_generation_is_complete
    @app.edit("config/unicorn.conf.rb") { |text| text.sub("sleep 1", "sleep 2") } # time to be killed in
    serve(@app)
    await_workers(1, WORKERS)
    old = @app.generations.fetch(1)
    result = Load.on(@app.address) do
      @app.hup
      @app.wait_until("a new worker has taken a place") { Processes.unicorn_workers(old).size == WORKERS - 1 }
      Process.kill(:KILL, masters.max)
      assert Processes.alive?(old)
      fewest = 1
      @app.wait_until("another generation is complete, and the only one") do
        fewest = [fewest, Processes.unicorn_workers(old).size].min if Processes.alive?(old)
        @app.generations.keys.then { |keys| keys.size == 1 && keys.first >= 3 }
      end
      assert_equal WORKERS - 1, fewest.clamp(WORKERS - 1, WORKERS)
      refute Processes.alive?(old)
    end
    assert_nothing_failed(result)
    assert_operator result["generations"].last, :>=, 3
  end

  def test_an_application_that_does_not_load_costs_the_old_master_nothing
    @app.edit("config/unicorn.conf.rb") { |text| text.sub("preload_app true", "preload_app false") }
    @app.edit("config.ru") { |text| "raise 'not today' if File.exist?(File.join(__dir__, 'broken'))\n#{text}" }
    serve(@app)
    await_workers(1, WORKERS)
    old = @app.generations.fetch(1)
    result = Load.on(@app.address) do
      FileUtils.touch(@app.path("broken"))
      @app.hup
      @app.wait_until("all new workers have failed") { @app.output.scan("not today").size > WORKERS }
      assert_equal WORKERS, Processes.unicorn_workers(old).size
      FileUtils.rm(@app.path("broken"))
      @app.hup
      @app.wait_until("a generation that loads has taken over") { @app.generations.keys == [3] }
    end
    assert_nothing_failed(result)
    assert_equal [1, 2, 3], result["generations"] | [2]
    assert_stops(@app)
  end

  private

  def masters
    Processes.children(@app.pid)
  end

  def answer_of(generation)
    body = Load.request(@app.address)
    body if Load.generation(body) == generation
  rescue SystemCallError
    nil
  end

  def await_workers(generation, count)
    @app.wait_until("generation #{generation} has #{count} workers and they are ready") do
      master = @app.generations[generation]
      master && Processes.unicorn_workers(master).size == count &&
        @app.output.scan(/#(\d+)\]  INFO -- : worker=\d+ ready/).flatten.map(&:to_i)
            .then { |ready| (Processes.unicorn_workers(master) - ready).empty? }
    end
  end

  # Workers of all generations, counted again and again. Older masters are looked at first: a worker that has gone
  # since then has already been replaced by one that is counted later.
  def fewest_workers_during
    over = false
    fewest = Float::INFINITY
    counting = Thread.new do
      until over
        fewest = [fewest, masters.sum { |master| Processes.unicorn_workers(master).size }].min
        sleep 0.01
      end
    end
    yield
    fewest
  ensure
    over = true
    counting.join
  end
end
