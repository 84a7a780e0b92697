# For any PSGI server.
use strict;
use warnings;
use Time::HiRes qw(sleep);

my $generation = $ENV{SERVER_STARTER_GENERATION} // 0;

sub answer {
    my $body = "hello from generation $generation, process $$\n";
    return [200, ['Content-Type' => 'text/plain', 'Content-Length' => length $body], [$body]];
}

sub {
    my $env = shift;
    return answer() if $env->{PATH_INFO} ne '/slow';
    if (!$env->{'psgi.nonblocking'}) {
        sleep 0.3;
        return answer();
    }
    # A server with an event loop must not be made to sleep.
    return sub {
        my $respond = shift;
        require AnyEvent;
        my $timer;
        $timer = AE::timer(0.3, 0, sub { undef $timer; $respond->(answer()) });
    };
};
