# frozen_string_literal: true

require "minitest/autorun"
require_relative "application"

# The executable start_server.rb: what it runs, and with which environment. Other programs stand in for start_server.
class StartServerTest < Minitest::Test
  SCRIPT = File.join(Application::RUBY_DIRECTORY, "bin/start_server.rb")

  def setup
    @app = Application.new("unicorn")
  end

  def teardown
    @app.clean_up
  end

  def test_it_hands_over_its_arguments_as_they_are
    assert_equal ["a", "b c", "", "--", "$x"].map { |word| "<#{word}>" }.join,
                 run_with({ "START_SERVER" => "/usr/bin/printf" }, "<%s>", "a", "b c", "", "--", "$x").first
  end

  def test_under_bundler_the_environment_is_what_it_was_before_bundler
    [{}, { "RUBYOPT" => "-W1", "RUBYLIB" => "/x", "BUNDLE_GEMFILE" => @app.path("Gemfile"), "GEM_HOME" => "/y" }]
      .each do |mine|
      environment = @app.environment.merge("START_SERVER" => "/usr/bin/printenv", **mine)
      direct, = Open3.capture2(environment, "/usr/bin/printenv", "-0", chdir: @app.directory)
      bundled, = Open3.capture2(environment, "bundle", "exec", "start_server.rb", "-0", chdir: @app.directory)
      assert_equal direct.split("\0").sort, bundled.split("\0").sort
    end
  end

  def test_under_bundler_workers_may_use_another_bundle
    other = @app.path("other")
    Dir.mkdir(other)
    File.write(File.join(other, "Gemfile"), "gem 'rack'\n")
    @app.environment["START_SERVER"] = "/usr/bin/env"
    output, = @app.run("bundle", "exec", "start_server.rb", "-C", other, "bundle", "exec", "ruby", "-e",
                       "puts Bundler.default_gemfile")
    assert_equal File.join(other, "Gemfile"), output.chomp
  end

  def test_the_program_named_by_the_variable_must_be_one
    output, status = run_with({ "START_SERVER" => "/no/such/program" }, "--version")
    assert_equal 1, status.exitstatus
    assert_equal "start_server.rb: START_SERVER is set to /no/such/program, which is not a file that can be run\n",
                 output
  end

  def test_the_program_is_looked_for_beside_the_gem_and_in_path_and_perls_is_passed_over
    root = @app.path("installed")
    FileUtils.mkdir_p(File.join(root, "libexec"))
    %w[bin lib].each { |name| FileUtils.cp_r(File.join(Application::RUBY_DIRECTORY, name), root) }
    perl = program("perl", "#!/usr/bin/perl\nprint 'perl'\n")
    rust = program("rust", "#!/bin/sh\necho path\n")
    others = ENV["PATH"].split(":").reject { |directory| File.exist?(File.join(directory, "start_server")) }
    path = ->(*first) { { "PATH" => [*first, *others].join(":") } }
    script = File.join(root, "bin/start_server.rb")

    output, status = run_with(path.call(perl), script: script)
    assert_equal 1, status.exitstatus
    assert_match(/\Astart_server.rb: cannot find the program start_server/, output)
    assert_equal "path\n", run_with(path.call(perl, rust), script: script).first

    FileUtils.ln_s(File.join(program("gem", "#!/bin/sh\necho beside\n"), "start_server"), File.join(root, "libexec"))
    assert_equal "beside\n", run_with(path.call(rust), script: script).first
  end

  private

  def run_with(environment, *arguments, script: SCRIPT)
    Open3.capture2e({ "START_SERVER" => nil }.merge(environment), RbConfig.ruby, script, *arguments)
  end

  # A directory that holds a program of the name start_server.
  def program(name, text)
    directory = @app.path(name)
    Dir.mkdir(directory)
    File.write(File.join(directory, "start_server"), text, perm: 0o755)
    directory
  end
end
