# frozen_string_literal: true

class Server
  class Starter
    # Continues the numbers of the gem of this name before, so that a Gemfile's `~> 0.3` goes on to hold.
    VERSION = "0.4.0"
  end
end
