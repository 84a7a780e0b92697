# No `bind` here: the sockets are inherited.
threads 4, 4
environment 'none'
