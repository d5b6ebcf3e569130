#!/bin/sh
# A loop with gevent.sleep(0) in each round lets sockets be polled only once in fifty rounds, however long a round is.
#
# sleep(0) is the usual way to let others run while something computes. In gevent it adds a callback, and the event
# loop runs up to fifty callbacks, also those that were added meanwhile, before it looks at the clock and polls. A
# greenlet that waits for a socket, readable since the first round, runs after fifty rounds of 10 ms. sleep(0.0001) sets
# a timer, which is checked after the sockets: one round or two. gevent documents the time slice of callbacks, not the
# fifty. With eventlet, sleep(0) polls in each round.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0 eventlet==0.41.3
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata
import sys
import time

if sys.argv[1] == 'eventlet':
    from eventlet import sleep, spawn
    from eventlet.green import socket

    def wait(connection):
        connection.recv(1)
else:
    import socket

    from gevent import sleep, spawn
    from gevent.socket import wait_read

    def wait(connection):
        wait_read(connection.fileno())

left, right = socket.socketpair()
done = []
spawn(lambda: done.append(wait(left)))
sleep(0.01)
right.send(b'x')
rounds = 0
while not done and rounds < 100:
    time.sleep(0.01)
    sleep(float(sys.argv[2]))
    rounds += 1
print(sys.argv[1], importlib.metadata.version(sys.argv[1]), f'sleep({sys.argv[2]})', 'rounds:', rounds)
assert 40 < rounds < 100 if sys.argv[1:] == ['gevent', '0'] else rounds < 5
PYTHON
"$work/venv/bin/python" -W ignore "$work/show.py" gevent 0
"$work/venv/bin/python" -W ignore "$work/show.py" gevent 0.0001
"$work/venv/bin/python" -W ignore "$work/show.py" eventlet 0
# gevent 26.9.0 sleep(0) rounds: 51
# gevent 26.9.0 sleep(0.0001) rounds: 1
# eventlet 0.41.3 sleep(0) rounds: 1
