# No `bind` here: the sockets are inherited.
workers 2
threads 4, 4
environment 'none'
