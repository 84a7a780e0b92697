# frozen_string_literal: true

require "server/starter/process_table"
require "server/starter/version"

class Server
  class Starter
    # A new worker taking the place of an old one: TTOU to the master of the generation before, QUIT when the new
    # generation is complete. Used by UnicornListener and ResqueListener, in the new worker's process.
    class PhaseOut
      # `status_file`: what the superdaemon was given as --status-file. `workers`: how many this generation shall have.
      def initialize(status_file, workers)
        @status_file = status_file
        @workers = workers
        @generation = ENV["SERVER_STARTER_GENERATION"].to_i
      end

      # To be called once by each new worker; `ready` counts it in. Returns whether any master was told anything.
      #
      # The last QUIT goes to every older master, not only to the one before: a generation that died half-way has
      # left the one before it behind.
      def worker_is_ready(ready:)
        masters = older_masters
        if ready >= @workers
          masters.map { |pid| signal(:QUIT, pid) }.any?
        else
          place_to_spare?(masters, ready) && masters.reverse.any? { |pid| signal(:TTOU, pid) }
        end
      end

      private

      # PIDs of the masters of older generations, oldest first.
      def older_masters
        return [] if @generation < 2

        pids = generations_on_file.select { |generation, _| generation < @generation }.sort.map(&:last)
        pids - [Process.pid, Process.ppid]
      end

      # Anything but GENERATION:PID is passed over: PID 0 or less would address whole process groups.
      def generations_on_file
        File.readlines(@status_file).filter_map do |line|
          generation, pid = line.chomp.match(/\A(\d+):([1-9]\d*)\z/)&.captures
          [generation.to_i, pid.to_i] if pid
        end
      rescue SystemCallError, TypeError => e
        warn "generation #{@generation}: cannot learn from the status file who the old master is: #{e.message}; " \
             "looking at the superdaemon's processes instead. " \
             "Is #{@status_file.inspect} what was given as --status-file?"
        ProcessTable.generations_beside(Process.ppid)
      end

      # Each attempt that dies half-way has taken places. Were the next one to take further ones from the start,
      # repeated failures would empty the old master. Where the old workers cannot be seen, they count as enough.
      def place_to_spare?(masters, ready)
        old_workers = masters.sum { |pid| ProcessTable.forks(pid) }
        old_workers.zero? || old_workers + ready > @workers
      end

      def signal(name, pid)
        Process.kill(name, pid)
        true
      rescue Errno::ESRCH
        false # It went by itself, which is what was wanted.
      rescue Errno::EPERM => e
        warn "generation #{@generation}: cannot send #{name} to the old master #{pid}: #{e.message}; it stays as it is"
        false
      end
    end
  end
end
