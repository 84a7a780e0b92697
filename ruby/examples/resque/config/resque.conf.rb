require 'server/starter/resque_listener'
listener = Server::Starter::ResqueListener

APP_ROOT = File.expand_path('../..', __FILE__)
require File.join(APP_ROOT, 'my_job')

# The superdaemon's own. resque's starter gets neither pid_file nor status_file: two generations would share them.
superdaemon_status_file = File.join(APP_ROOT, 'log/start_server.stat')

concurrency 2
preload_app true
queues ['test']

before_fork do |starter, worker, worker_nr|
  # Connections that the starter holds must not be shared with its workers.
  defined?(ActiveRecord::Base) and ActiveRecord::Base.connection.disconnect!
end

after_fork do |starter, worker, worker_nr|
  defined?(ActiveRecord::Base) and ActiveRecord::Base.establish_connection

  # Each of these workers takes the place of one of the old starter's, which gets TTOU; the last sends QUIT.
  # Both let jobs in progress be finished. Goes with --signal-on-hup=CONT.
  listener.graceful_restart(starter, worker, worker_nr, superdaemon_status_file)
end
