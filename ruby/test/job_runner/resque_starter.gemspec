# frozen_string_literal: true

# Stands in for the gem of this name, and for resque, which Debian does not have.
Gem::Specification.new do |gem|
  gem.name = "resque_starter"
  gem.version = "0"
  gem.summary = "A small preforking job runner for tests"
  gem.authors = ["The start_server authors"]
  gem.files = Dir.chdir(__dir__) { Dir["bin/*", "lib/*"] }
  gem.executables = ["start_resque.rb"]
  gem.bindir = "bin"
  gem.add_dependency "redis"
end
