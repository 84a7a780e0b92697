#!/usr/bin/env ruby
# frozen_string_literal: true

# Becomes puma, which finds in its environment what sockets it was given: start_puma.rb puma -C config/puma.conf.rb

$LOAD_PATH.unshift(File.expand_path("../lib", __dir__))
require "server/starter/puma_listener"

abort "start_puma.rb: give the command to run: start_puma.rb puma -C config/puma.conf.rb" if ARGV.empty?
Server::Starter::PumaListener.listen or
  abort "start_puma.rb: not started by start_server.rb: there is no SERVER_STARTER_PORT in the environment"

begin
  exec([ARGV.first, ARGV.first], *ARGV.drop(1), close_others: false)
rescue SystemCallError => e
  abort "start_puma.rb: cannot run #{ARGV.first}: #{e.message}"
end
