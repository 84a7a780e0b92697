# frozen_string_literal: true

# Load on a server: requests without a pause, each on a connection of its own, from a process of its own.

require "json"
require "socket"
require "timeout"

module Load
  # For each client, the seconds between its connection and its request. The last is slow to speak, so that there is
  # nearly always a connection that has been made and has sent nothing.
  CLIENTS = [0, 0, 0.1].freeze
  PAUSE = 0.004 # seconds, so that the machine has time for the servers
  PATIENCE = 20 # seconds for one answer

  # Keeps `address` ("HOST:PORT" or a path) under load while the block runs. Returns what came of the requests:
  # { "ok" => …, "failures" => ["…"], "generations" => [1, …] }.
  def self.on(address)
    IO.popen([RbConfig.ruby, __FILE__, address], "r+") do |client|
      client.gets # it has begun
      yield
      client.close_write
      JSON.parse(client.read)
    end
  end

  # One request. Returns the body of an answer that is complete; raises else.
  def self.request(address, hesitation = 0)
    Timeout.timeout(PATIENCE) do
      connect(address) do |socket|
        sleep hesitation
        socket.write("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        head, body = socket.read.split("\r\n\r\n", 2)
        raise "no answer" unless head
        raise "answer #{head.lines.first}" unless head.match?(%r{\AHTTP/1\.1 200 })
        raise "cut off: #{body}" unless body.to_s.bytesize == head[/content-length: *(\d+)/i, 1].to_i

        body
      end
    end
  end

  def self.connect(address, &block)
    return UNIXSocket.open(address, &block) if address.start_with?("/")

    host, port = address.split(":")
    TCPSocket.open(host, port, &block)
  end

  def self.generation(body)
    body[/generation (\d+)/, 1].to_i
  end

  # The process that makes the load, until its standard input is closed.
  def self.main(address)
    $stdout.sync = true
    over = false
    clients = CLIENTS.map do |hesitation|
      Thread.new do
        answers = []
        failures = []
        until over
          begin
            answers << generation(request(address, hesitation))
          rescue StandardError => e
            failures << "#{e.class}: #{e.message}"
          end
          sleep PAUSE
        end
        [answers, failures]
      end
    end
    puts
    $stdin.read
    over = true
    answers, failures = clients.map(&:value).transpose.map(&:flatten)
    puts JSON.generate(ok: answers.size, failures: failures, generations: answers.uniq.sort)
  end
end

Load.main(ARGV.fetch(0)) if $PROGRAM_NAME == __FILE__
