# frozen_string_literal: true

# Runs all tests of the gem, and says in its last line how many passed and failed. Called by test.sh.

require "minitest"

# Prints the last line.
class Tally < Minitest::StatisticsReporter
  def report
    super
    failed = failures + errors
    Minitest.after_run { io.puts "#{count - failed} passed, #{failed} failed" }
  end
end

module Minitest
  def self.plugin_tally_init(options)
    reporter << Tally.new(options[:io], options)
  end
  extensions << "tally"
end

Dir[File.join(__dir__, "*_test.rb")].sort.each { |file| require file }
