# frozen_string_literal: true

require_relative "server_test"
require "redis"
require "json"

# The example of resque, with the tests' own job runner and a real Redis.
class ResqueTest < ServerTest
  parallelize_me!

  # A job that takes a while, so that there are always some in progress.
  JOB = <<~RUBY
    class MyJob
      def self.perform(number)
        sleep 0.01
        Resque.redis.hincrby("worked_on", number, 1)
      end
    end
  RUBY

  def setup
    super
    @app = application("resque")
    @app.edit("Gemfile") { |text| text.sub('"resque_starter"') { |name| "#{name}, path: '#{__dir__}/job_runner'" } }
    @app.edit("my_job.rb") { JOB }
    @app.environment["TEST_REDIS"] = @app.path("redis.sock")
    start_redis
  end

  def teardown
    Process.kill(:KILL, @redis)
    Process.wait(@redis)
    super
  end

  def test_no_job_is_lost_and_none_is_run_twice
    @app.start
    @app.wait_until("the first job is done") { enqueue(0) && worked_on.any? }
    number = 0
    over = false
    producer = Thread.new do
      enqueue(number += 1) && sleep(0.01) until over
    end
    @app.restart("bundle", "exec", "start_server.rb")
    (RESTARTS - 1).times { @app.restart }
    over = true
    producer.join
    @app.wait_until("the queue is empty") { redis.llen("queue:test").zero? }
    assert_equal [RESTARTS + 1], @app.generations.keys
    assert_stops(@app)
    assert_equal (1..number).to_h { |job| [job.to_s, "1"] }, worked_on.reject { |job, _| job == "0" }
    report "resque: #{RESTARTS} restarts, #{number} jobs, none lost, none run twice"
  end

  private

  def start_redis
    @redis = spawn({ Application::MARK => "redis of #{@app.mark}" }, "redis-server", "--port", "0", "--unixsocket",
                   @app.path("redis.sock"), "--save", "", "--appendonly", "no", "--dir", @app.directory,
                   out: File::NULL, err: File::NULL, pgroup: true)
    @app.wait_until("Redis answers") { redis.ping rescue nil }
  end

  def redis
    Thread.current[:redis] ||= Redis.new(path: @app.path("redis.sock"))
  end

  def worked_on
    redis.hgetall("worked_on")
  end

  def enqueue(number)
    redis.rpush("queue:test", JSON.generate(class: "MyJob", args: [number]))
  end
end
