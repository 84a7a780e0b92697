run lambda { |_env|
  body = "generation #{ENV['SERVER_STARTER_GENERATION']} pid #{Process.pid}\n"
  [200, { 'Content-Type' => 'text/plain', 'Content-Length' => body.bytesize.to_s }, [body]]
}
