#!/usr/bin/perl
# A server that does to its shared sockets what servers do: perl server.pl WORD...
#
#   start=shutdown, start=unlink, start=listen    when it starts: shutdown(2), unlink its path, listen(2) with a backlog of 1
#   stop=shutdown, stop=unlink                    when it is told to stop, before it goes
#   slow=SECONDS                                  each connection keeps it busy for so long
#   ignore                                        it never uses the sockets
use strict;
use warnings;
use Socket;
use Time::HiRes qw(sleep time);

$| = 1;
my %word = map { $_ => 1 } @ARGV;
my ($slow) = map { /^slow=(.*)/ ? $1 : () } @ARGV;
my $stop = 0;
$SIG{TERM} = sub { $stop = 1 };

my @listeners;
for my $entry (split /;/, $ENV{SERVER_STARTER_PORT}) {
    my ($name, $number) = $entry =~ /(.*)=(\d+)$/ or die $entry;
    open my $socket, '+<&=', $number or die "fdopen $number: $!";
    $socket->blocking(0);
    push @listeners, [$name, $socket];
}

sub misuse {
    my $when = shift;
    for my $listener (@listeners) {
        my ($name, $socket) = @$listener;
        shutdown $socket, 2 if $word{"$when=shutdown"};
        unlink $name if $word{"$when=unlink"} && $name !~ /:/;
        listen $socket, 1 if $word{"$when=listen"};
    }
}

sub answer {
    my $client = shift;
    my $request = '';
    while ($request !~ /\r\n\r\n/) {
        my $got = sysread $client, $request, 4096, length $request;
        # The signal may come here.
        return if defined $got ? $got == 0 : !$!{EINTR};
    }
    sleep $slow if $slow;
    my $body = "generation=$ENV{SERVER_STARTER_GENERATION} pid=$$\n";
    syswrite $client, "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
}

misuse('start');
# A file up.GENERATION says so as well.
open my $up, '>', "up.$ENV{SERVER_STARTER_GENERATION}" or die;
print STDERR "server $ENV{SERVER_STARTER_GENERATION} is up\n";
until ($stop) {
    if ($word{ignore}) {
        sleep 0.05;
        next;
    }
    my $bits = '';
    vec($bits, fileno $_->[1], 1) = 1 for @listeners;
    # The limit is for a signal that comes between the look at it and the wait.
    select my $ready = $bits, undef, undef, 0.05 or next;
    for my $listener (@listeners) {
        if (accept my $client, $listener->[1]) {
            $client->blocking(1);
            answer($client);
        } elsif (!$!{EAGAIN}) {
            sleep 0.01;
        }
    }
}
misuse('stop');
