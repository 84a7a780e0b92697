# frozen_string_literal: true

require "server/starter/sockets"
require "server/starter/version"

class Server
  # For server programs written in Ruby that take the sockets of start_server themselves.
  class Starter
    # The inherited sockets: { "127.0.0.1:8080" => "3", "/run/app.sock" => "4" }.
    #
    # Ends the process with status 1 and a message if it does not run under a superdaemon.
    def server_ports
      sockets = Sockets.inherited or
        abort "no environment variable #{Sockets::VARIABLE}. Did you start the process using start_server.rb?"
      sockets.to_h { |socket| [socket.name, socket.fd] }
    end
  end
end
