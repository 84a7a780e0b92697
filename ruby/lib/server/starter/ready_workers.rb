# frozen_string_literal: true

require "server/starter/version"
require "tempfile"

class Server
  class Starter
    # Which workers of this generation have ever been ready, known to all its processes: a file without a name that
    # the master opens and its workers inherit. Used by UnicornListener.
    #
    # Workers become ready in any order, die, and are forked again; each must count once.
    class ReadyWorkers
      # nil if there is no place for a temporary file; the caller then goes by the workers' numbers.
      def self.shared
        new
      rescue SystemCallError, ArgumentError # the latter is what Dir.tmpdir raises if it finds no directory
        nil
      end

      def initialize
        # Appending, so that workers that write at the same time do not overwrite each other.
        @file = Tempfile.create("ready-workers", mode: File::APPEND)
        File.unlink(@file.path)
      end

      # Adds the worker, and returns how many of the workers 0...workers are in the set now.
      #
      # Returns nil if it was in it before, unless the set is complete: what is due then may be done twice.
      def add(number, workers)
        known = numbers.include?(number)
        @file.syswrite("#{number}\n") unless known
        ready = numbers.count { |other| other < workers }
        ready unless known && ready < workers
      rescue SystemCallError # a full disk
        number + 1
      end

      private

      # Positioned reading: all processes share one file offset.
      def numbers
        size = @file.size
        size.zero? ? [] : @file.pread(size, 0).split.map(&:to_i).uniq
      end
    end
  end
end
