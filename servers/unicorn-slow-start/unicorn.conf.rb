require 'server/starter/unicorn_listener'

listener = Server::Starter::UnicornListener
worker_processes 4
preload_app true
timeout 30
listener.listen

# One worker after the other, so that a cold application does not meet all of the load at once.
before_fork { |_server, worker| sleep 0.2 unless worker.nr.zero? }
after_fork { |server, worker| listener.slow_start(server, worker, 'run/status') }
