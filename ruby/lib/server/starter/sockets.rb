# frozen_string_literal: true

require "server/starter/version"

class Server
  class Starter
    # What SERVER_STARTER_PORT says: the sockets that this process was given. Read by the listeners of all servers.
    module Sockets
      VARIABLE = "SERVER_STARTER_PORT"

      # One inherited socket: its name as on the command line, and its descriptor (a string of digits).
      Inherited = Struct.new(:name, :fd)

      # nil if this process does not run under a superdaemon, else an array, which may be empty.
      #
      # The format has no escapes. A path may hold "=" and ";", so an entry ends only where "=" and digits are
      # followed by ";" or by the end.
      def self.inherited
        ENV[VARIABLE]&.scan(/(.+?)=(\d+)(?:;|\z)/m)&.map { |name, fd| Inherited.new(name, fd) }
      end
    end
  end
end
