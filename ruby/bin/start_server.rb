#!/usr/bin/env ruby
# frozen_string_literal: true

# Becomes the superdaemon: runs the program start_server with the same arguments, in the same process.

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "server/starter/program"

# The superdaemon outlives this bundle. What Bundler set for this process would make the `bundle exec` of later
# generations use the Gemfile, the gems and the options of today.
environment = defined?(Bundler) ? Bundler.original_env : ENV.to_h

begin
  program = Server::Starter::Program.path(environment)
  exec(environment, [program, program], *ARGV, unsetenv_others: true, close_others: false)
rescue Server::Starter::Program::NotFound => e
  abort "start_server.rb: #{e.message}"
rescue SystemCallError => e
  abort "start_server.rb: cannot run #{program}: #{e.message}"
end
