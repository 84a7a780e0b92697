# frozen_string_literal: true

require "server/starter/version"

class Server
  class Starter
    # What /proc says of masters and their workers; see proc(5). Whatever cannot be read counts as not there.
    # Used by PhaseOut.
    module ProcessTable
      class << self
        # How many children of the process run the same program as it: the workers that it has forked.
        def forks(pid)
          program = program_of(pid)
          program ? children(pid).count { |child| program_of(child) == program } : 0
        end

        # [generation, PID] of every process that has the same parent as this one, from their environments.
        def generations_beside(pid)
          children(parent(pid)).filter_map do |sibling|
            generation = File.binread("/proc/#{sibling}/environ")[/(?:\A|\0)SERVER_STARTER_GENERATION=(\d+)/, 1]
            [generation.to_i, sibling] if generation
          rescue SystemCallError
            nil
          end
        end

        private

        def children(pid)
          Dir.glob("/proc/#{pid}/task/*/children").flat_map { |file| File.read(file).split.map(&:to_i) }
        rescue SystemCallError
          []
        end

        def parent(pid)
          File.read("/proc/#{pid}/status")[/^PPid:\s*(\d+)/, 1].to_i
        rescue SystemCallError
          0
        end

        def program_of(pid)
          File.readlink("/proc/#{pid}/exe")
        rescue SystemCallError
          nil
        end
      end
    end
  end
end
