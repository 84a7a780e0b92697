# frozen_string_literal: true

require_relative "lib/server/starter/version"

Gem::Specification.new do |gem|
  gem.name = "server-starter"
  gem.version = Server::Starter::VERSION
  gem.authors = ["The start_server authors"]
  gem.summary = "Runs unicorn, puma and resque under start_server, and restarts them without losing a request"
  gem.licenses = ["MIT", "Apache-2.0"]
  gem.required_ruby_version = ">= 2.7"
  gem.files = Dir.chdir(__dir__) { Dir["bin/*.rb", "lib/**/*.rb", "libexec/*"] }
  gem.executables = ["start_server.rb", "start_puma.rb"]
  gem.bindir = "bin"
end
