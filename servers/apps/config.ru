# For any Rack server.
run lambda { |env|
  sleep 0.3 if env['PATH_INFO'] == '/slow'
  body = "hello from generation #{ENV['SERVER_STARTER_GENERATION']}, process #{Process.pid}\n"
  [200, { 'content-type' => 'text/plain', 'content-length' => body.bytesize.to_s }, [body]]
}
