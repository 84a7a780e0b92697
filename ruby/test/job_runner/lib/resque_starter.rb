# frozen_string_literal: true

require "resque"

# Forks workers that take jobs from Redis. It has the configuration words, the hooks' arguments and the answers to
# signals of resque's starter: TTIN and TTOU for a worker more and less, QUIT for an end after the jobs in progress.
class ResqueStarter
  attr_reader :num_workers, :old_workers

  def initialize(file)
    @master = Process.pid
    @queues = []
    @signals = []
    @old_workers = {} # PID => number
    instance_eval(File.read(file), file)
  end

  def concurrency(count) = @num_workers = count
  def queues(names) = @queues = names
  def preload_app(_) = nil
  def before_fork(&block) = @before_fork = block
  def after_fork(&block) = @after_fork = block

  def run
    %w[TERM INT QUIT CONT TTIN TTOU].each { |name| trap(name) { received(name) } }
    until @stopping && @old_workers.empty?
      handle(@signals.shift) until @signals.empty?
      reap
      maintain_worker_count unless @stopping
      sleep 0.01
    end
  end

  private

  # Between fork and the end of a worker's life, the worker has this handler, too.
  def received(name)
    if Process.pid == @master
      @signals << name
    elsif name == "QUIT"
      @quit = true
    elsif name != "CONT"
      exit!(1)
    end
  end

  def handle(name)
    case name
    when "TTIN" then @num_workers += 1
    when "TTOU" then @num_workers -= 1 if @num_workers.positive?
    when "QUIT", "TERM", "INT"
      @stopping = true
      @old_workers.each_key { |pid| Process.kill(name, pid) }
    end
  end

  def reap
    while (pid = Process.wait(-1, Process::WNOHANG))
      @old_workers.delete(pid)
    end
  rescue Errno::ECHILD
    nil
  end

  def maintain_worker_count
    @old_workers.each { |pid, number| Process.kill(:QUIT, pid) if number >= @num_workers }
    ([*0...@num_workers] - @old_workers.values).each { |number| spawn_worker(number) }
  end

  def spawn_worker(number)
    worker = Object.new
    @before_fork.call(self, worker, number)
    pid = fork do
      @after_fork.call(self, worker, number)
      sleep 0.005 unless Resque.work(@queues) until @quit
      exit!(0)
    end
    @old_workers[pid] = number
  end
end
