# frozen_string_literal: true

require "server/starter/phase_out"

class Server
  class Starter
    # For the configuration file of resque's starter: lets new workers phase out old ones.
    class ResqueListener
      # Call it in `after_fork`: each new worker takes the place of one of the old starter's (TTOU), and the last one
      # sends the old starter away (QUIT); both let jobs in progress be finished. Then it waits until the starter has
      # no more workers than it shall have. Needs --signal-on-hup=CONT, and --status-file=STATUS_FILE.
      def self.graceful_restart(starter, _worker, worker_nr, status_file)
        master = Process.ppid
        return unless PhaseOut.new(status_file, starter.num_workers).worker_is_ready(ready: worker_nr + 1)

        sleep 0.1 while starter.old_workers.size > starter.num_workers && Process.ppid == master
      end
    end
  end
end
