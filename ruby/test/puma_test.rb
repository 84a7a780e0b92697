# frozen_string_literal: true

require_relative "server_test"

# The example of puma, and several sockets of both kinds.
class PumaTest < ServerTest
  parallelize_me!

  def setup
    super
    @app = application("puma")
  end

  def test_the_example_is_restarted_under_load
    serve(@app)
    result = Load.on(@app.address) do
      @app.restart("bundle", "exec", "start_server.rb")
      (RESTARTS - 1).times { @app.restart }
    end
    assert_nothing_failed(result)
    assert_equal RESTARTS + 1, result["generations"].last
    report "puma: #{RESTARTS} restarts, #{result['ok']} requests, 0 failed"
    assert_stops(@app)
  end

  # One of them at a descriptor of its own, so that nothing works by being number 3, 4, 5.
  def test_each_of_several_sockets_gets_its_own_descriptor
    @app.edit("config/puma.conf.rb") do |text|
      "#{text}\nrequire 'socket'\nFile.write('log/sockets', listener.listen.map { |socket| " \
        "io = Socket.for_fd(socket[:fd].to_i).tap { |it| it.autoclose = false }\n" \
        "\"\#{socket[:url]} \#{io.local_address.inspect_sockaddr}\\n\" }.join)\n"
    end
    ports = Array.new(2) { "127.0.0.1:#{Application.free_port}" }
    sockets = ["log/app.sock", @app.path("log/b;c=d.sock")]
    FileUtils.mkdir_p(@app.path("log"))
    @app.start("bundle", "exec", "start_server.rb", "--port=#{ports[0]}", "--port=#{ports[1]}=17",
               "--path=#{sockets[0]}", "--path=#{sockets[1]}", "--dir=.", "--interval=1",
               "--pid-file=log/start_server.pid", "--status-file=log/start_server.stat", "--",
               "bundle", "exec", "--keep-file-descriptors", "start_puma.rb", "puma", "-C", "config/puma.conf.rb",
               "config.ru")
    addresses = [*ports, *sockets.map { |path| File.expand_path(path, @app.directory) }]
    (1..4).each do |generation|
      @app.restart if generation > 1
      addresses.each { |address| assert_equal generation, Load.generation(await_answer(@app, address)) }
    end
    expected = [*ports.map { |port| "tcp://#{port} #{port}" },
                "unix://#{sockets[0]} #{sockets[0]}", "unix://#{sockets[1]} #{sockets[1]}"]
    assert_equal expected, File.readlines(@app.path("log/sockets"), chomp: true).map { |line| line.sub("UNIX ", "") }
    assert_equal 4 * addresses.size, @app.output.scan("* Inherited ").size
    assert_stops(@app)
  end

  def test_without_a_superdaemon_the_configuration_listens_by_itself
    @app.start("bundle", "exec", "puma", "-C", "config/puma.conf.rb", "config.ru")
    assert_match(/\Ageneration  pid/, await_answer(@app))
    @app.stop
  end

  def test_start_puma_says_that_there_is_no_superdaemon
    output, status = @app.run("bundle", "exec", "start_puma.rb", "puma")
    assert_equal 1, status.exitstatus
    assert_match(/not started by start_server.rb/, output)
  end
end
