# frozen_string_literal: true

require "server/starter/sockets"
require "socket"

class Server
  class Starter
    # For puma: takes the sockets of the superdaemon. Called by start_puma.rb, and by puma's configuration file.
    class PumaListener
      # Tells puma which descriptor belongs to which address, for all sockets. puma reads this before its configuration
      # file, so start_puma.rb has to have called it; the file calls it for what to `bind`.
      #
      # Returns [{ fd: "3", url: "tcp://127.0.0.1:8080" }, …], or nil if there is no superdaemon.
      def self.listen
        Sockets.inherited&.map&.with_index do |socket, index|
          url = url(socket.name)
          accept_only_with_data(socket.fd) if url.start_with?("tcp:")
          ENV["PUMA_INHERIT_#{index}"] = "#{socket.fd}:#{url}"
          { fd: socket.fd, url: url }
        end
      end

      # A path may look like "/run/app:80"; a host never has a slash.
      def self.url(name)
        case name
        when /\A\d+\z/ then "tcp://0.0.0.0:#{name}"
        when %r{\A[^/]*:\d+\z} then "tcp://#{name}"
        else "unix://#{name.gsub(' ', '%20')}"
        end
      end

      # When puma stops, it closes connections that have sent nothing yet, among them those whose request is on its
      # way. With this option (tcp(7)) a connection is accepted when there is something to read, so that there are none.
      def self.accept_only_with_data(descriptor)
        socket = Socket.for_fd(descriptor.to_i)
        socket.autoclose = false
        socket.setsockopt(:TCP, :DEFER_ACCEPT, 1)
      rescue SystemCallError, ArgumentError
        nil # Not a TCP socket after all. puma will say so when it binds it.
      end

      private_class_method :url, :accept_only_with_data
    end
  end
end
