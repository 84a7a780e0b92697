# frozen_string_literal: true

require "server/starter/version"

class Server
  class Starter
    # Where the superdaemon is, the program start_server. Used by the executable start_server.rb.
    module Program
      class NotFound < StandardError; end

      VARIABLE = "START_SERVER"
      GEM_ROOT = File.expand_path("../../..", __dir__)
      # In the gem, if it was packaged with the program; in a checkout of the project, where cargo puts it.
      BESIDE = %w[libexec/start_server ../target/release/start_server ../target/debug/start_server].freeze

      # The absolute path of the program. Raises NotFound with a message for the user.
      def self.path(environment)
        explicit(environment) || beside || in_path(environment) || raise(NotFound, <<~MESSAGE)
          cannot find the program start_server, which start_server.rb runs:
          #{VARIABLE} is not set, it is not in #{GEM_ROOT}/libexec, and not in PATH.
          Install it there (cargo install --path crates/start_server), or set #{VARIABLE} to its path.
        MESSAGE
      end

      def self.explicit(environment)
        path = environment[VARIABLE].to_s
        return if path.empty?

        program?(path) or raise NotFound, "#{VARIABLE} is set to #{path}, which is not a file that can be run"
        File.expand_path(path)
      end

      def self.beside
        BESIDE.map { |file| File.expand_path(file, GEM_ROOT) }.find { |path| program?(path) }
      end

      # Server::Starter in Perl has a script of the same name, which is passed over: its options are not the same.
      def self.in_path(environment)
        directories = environment["PATH"].to_s.split(File::PATH_SEPARATOR)
        directories.map { |directory| File.join(directory, "start_server") }
                   .find { |path| program?(path) && !perl?(path) }
      end

      def self.program?(path)
        File.file?(path) && File.executable?(path)
      end

      def self.perl?(path)
        File.open(path, "rb") { |file| file.gets("\n", 200) }.to_s.match?(/\A#!.*perl/)
      rescue SystemCallError
        false
      end

      private_class_method :explicit, :beside, :in_path, :program?, :perl?
    end
  end
end
