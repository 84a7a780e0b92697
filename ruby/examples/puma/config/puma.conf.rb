require 'server/starter/puma_listener'
listener = ::Server::Starter::PumaListener

APP_ROOT = File.expand_path('../..', __FILE__)

# Neither pidfile nor state_path: two generations would write to the same file. The superdaemon knows the PIDs.
preload_app!
threads 0, 16
workers 2

if ENV['SERVER_STARTER_PORT']
  # start_puma.rb has told puma about the sockets; here each is bound by the address that it goes by.
  listener.listen.each { |socket| bind socket[:url] }
else
  # There is no superdaemon: this puma was started by hand.
  bind "tcp://#{ENV['PORT'] || '0.0.0.0:10080'}"
end

before_fork do
  # Connections that the master holds must not be shared with its workers.
  defined?(ActiveRecord::Base) and ActiveRecord::Base.connection.disconnect!
end

on_worker_boot do
  defined?(ActiveRecord::Base) and ActiveRecord::Base.establish_connection
end
