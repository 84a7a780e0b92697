# No `listen` here: the sockets are inherited.
worker_processes 4
preload_app true
timeout 30
