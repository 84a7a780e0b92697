# frozen_string_literal: true

require "server/starter/phase_out"
require "server/starter/ready_workers"
require "server/starter/sockets"

class Server
  class Starter
    # For unicorn's configuration file: takes the sockets of the superdaemon, and lets new workers phase out old ones.
    class UnicornListener
      class << self
        # Tells unicorn which sockets to take. Call it where `listen` would stand.
        #
        # Returns nil if there is no superdaemon, so that the file can go on to `listen` by itself.
        def listen
          sockets = Sockets.inherited or return
          @master = Process.pid
          @ready_workers = ReadyWorkers.shared
          ENV["UNICORN_FD"] = sockets.map(&:fd).join(",")
        end

        # Call it in `after_fork`: each new worker takes the place of one of the old master's (TTOU), and the last one
        # sends the old master away (QUIT). Needs --signal-on-hup=CONT, and --status-file=STATUS_FILE.
        #
        # The signal is sent when the worker is about to accept, not already when it is forked: an application that
        # does not load costs the old master nothing. (unicorn before 5.3 cannot tell; there it is sent at once.)
        def slow_start(server, worker, status_file)
          take_place = -> { take_place(server, worker, status_file) }
          if server.instance_variable_defined?(:@after_worker_ready)
            when_ready(server, worker, &take_place)
          else
            take_place.call
          end
        end

        private

        # `server` and `worker` are this process's own copies, so that what is set here is set for it alone.
        #
        # A worker that is to change its user does it before it is ready, and may not signal the old master then.
        def when_ready(server, worker)
          master = @master || Process.ppid
          pending = true
          take_place = lambda do
            yield if pending && Process.ppid == master # else the master died, and took this generation with it
            pending = false
          end
          worker.define_singleton_method(:user) do |*names|
            take_place.call
            super(*names)
          end
          configured = server.instance_variable_get(:@after_worker_ready)
          server.after_worker_ready = lambda do |*arguments|
            configured&.call(*arguments)
            take_place.call
          end
        end

        # "Last" is whoever completes the set. Where no set can be kept, it is the worker with the highest number.
        def take_place(server, worker, status_file)
          workers = server.worker_processes
          ready = @ready_workers ? @ready_workers.add(worker.nr, workers) : worker.nr + 1
          PhaseOut.new(status_file, workers).worker_is_ready(ready: ready) if ready
        end
      end
    end
  end
end
