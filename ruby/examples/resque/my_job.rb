require 'resque'

# A job that leaves a trace: how often each of its numbers was worked on.
class MyJob
  @queue = :test

  def self.perform(number)
    Resque.redis.hincrby('worked_on', number, 1)
  end
end
