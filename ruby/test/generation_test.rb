# frozen_string_literal: true

require_relative "server_test"

# What new workers rely on: at every moment at which a worker can look, the status file agrees with its
# SERVER_STARTER_GENERATION.
class GenerationTest < ServerTest
  # Looks all its life, from its first line on, and writes down what is wrong. Each notes its PID for the later ones.
  PROGRAM = <<~'RUBY'
    generation = Integer(ENV.fetch("SERVER_STARTER_GENERATION"))
    first = File.readlines("log/status", chomp: true) rescue []
    wrong = ->(text) { File.write("log/wrong", "generation #{generation}: #{text}\n", mode: "a") }
    File.write("log/pid.#{generation}", Process.pid.to_s)
    if generation > 1
      before = File.read("log/pid.#{generation - 1}")
      unless first.include?("#{generation - 1}:#{before}") || !File.exist?("/proc/#{before}")
        wrong.call("#{first} lacks the one before, which lives")
      end
    end
    over = false
    trap(:TERM) { over = true }
    until over
      (File.readlines("log/status", chomp: true) rescue []).each do |line|
        number, pid = line.split(":")
        wrong.call("#{line} is later than this") if number.to_i > generation + 1
        noted = File.read("log/pid.#{number}") rescue nil
        wrong.call("#{line} ought to be #{noted}") if noted && !noted.empty? && noted != pid
      end
      sleep 0.002
    end
  RUBY

  def test_the_status_file_agrees_with_the_generation_at_every_moment
    app = application("unicorn")
    FileUtils.mkdir_p(app.path("log"))
    app.edit("program.rb") { PROGRAM }
    app.start(Application::PROGRAM, "--interval=0.2", "--status-file=log/status", "--",
              "ruby", "--disable-gems", "program.rb")
    # Also in the middle of starts, when several requests become one restart.
    app.wait_until("the first worker runs") { File.exist?(app.path("log/pid.1")) }
    (2..RESTARTS + 1).each do |generation|
      app.hup
      app.wait_until("generation #{generation} runs") { File.exist?(app.path("log/pid.#{generation}")) }
    end
    assert app.stop.success?, app.output
    refute_path_exists app.path("log/wrong"), (File.read(app.path("log/wrong")) if File.exist?(app.path("log/wrong")))
  end
end
