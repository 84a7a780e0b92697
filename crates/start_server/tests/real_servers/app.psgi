# Answers with its generation and its process.
sub {
    my $body = "generation=$ENV{SERVER_STARTER_GENERATION} pid=$$\n";
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body], [$body]];
};
