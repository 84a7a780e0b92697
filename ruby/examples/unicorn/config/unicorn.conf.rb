require 'server/starter/unicorn_listener'
listener = Server::Starter::UnicornListener

worker_processes 2
preload_app true

APP_ROOT = File.expand_path('../..', __FILE__)
status_file = File.join(APP_ROOT, 'log/start_server.stat')

fd = listener.listen
unless fd
  # There is no superdaemon: this unicorn was started by hand.
  listen ENV['PORT'] || '10080'
end

before_fork do |server, worker|
  # Connections that the master holds must not be shared with its workers.
  defined?(ActiveRecord::Base) and ActiveRecord::Base.connection.disconnect!

  # One worker a second: the machine is not to start all of them at once while the old ones are still busy, and signals
  # to a master that is forking are merged if they come too quickly.
  sleep 1
end

after_fork do |server, worker|
  defined?(ActiveRecord::Base) and ActiveRecord::Base.establish_connection

  # Each of these workers takes the place of one of the old master's, which gets TTOU; the last sends QUIT.
  # Goes with --signal-on-hup=CONT: the superdaemon itself is not to tell the old master anything.
  listener.slow_start(server, worker, status_file)
end
