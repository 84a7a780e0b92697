# frozen_string_literal: true

require "json"
require "redis"

# As much of resque as jobs and the runner need: a list in Redis per queue, and where to find it.
module Resque
  def self.redis
    @redis = Redis.new(path: ENV.fetch("TEST_REDIS")) unless @pid == Process.pid
    @pid = Process.pid
    @redis
  end

  # Works on the next job of the queues, if there is one.
  def self.work(queues)
    payload = queues.lazy.filter_map { |queue| redis.lpop("queue:#{queue}") }.first or return
    job = JSON.parse(payload)
    Object.const_get(job["class"]).perform(*job["args"])
    true
  end
end
