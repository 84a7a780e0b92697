# frozen_string_literal: true

# What tests see of processes, in /proc. Whatever cannot be read has gone.
module Processes
  module_function

  def children(pid)
    Dir.glob("/proc/#{pid}/task/*/children").flat_map { |file| read(file).split.map(&:to_i) }
  end

  def command(pid)
    read("/proc/#{pid}/cmdline").tr("\0", " ").strip
  end

  def alive?(pid)
    state = read("/proc/#{pid}/stat")[/.*\) (\S)/, 1]
    !state.nil? && state != "Z"
  end

  def with_environment(entry)
    Dir.children("/proc").grep(/\A\d+\z/).map(&:to_i).select do |pid|
      pid != Process.pid && read("/proc/#{pid}/environ").split("\0").include?(entry)
    end
  end

  # Workers of a unicorn master: each has named itself before it does anything else.
  def unicorn_workers(master)
    children(master).select { |pid| command(pid).match?(/ worker\[\d+\]/) }
  end

  def read(file)
    File.binread(file)
  rescue SystemCallError
    ""
  end
end
