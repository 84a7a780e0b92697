#!/usr/bin/env ruby
# frozen_string_literal: true

require "resque_starter"

ResqueStarter.new(ARGV.fetch(ARGV.index("-c") + 1)).run
