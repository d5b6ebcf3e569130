#!/bin/sh
# With gevent's patched library, queue.Queue.put() of a real thread does not wake the greenlet that waits for the item.
#
# The queue is documented as safe for threads, and threading.Event, patched by the same call, does wake a greenlet of
# another thread at once. The waiting greenlet gets the item when its loop runs for another reason: in a busy server
# within milliseconds, in one that is idle when the next client connects, and if nothing else waits, get() raises
# LoopExit, because gevent does not know that a thread could still put something in.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check gevent==26.9.0 greenlet==3.5.6
cat > "$work/show.py" <<'PYTHON'
from gevent import monkey

monkey.patch_all()

import queue
import threading
import time

import gevent

sleep = monkey.get_original('time', 'sleep')
start = monkey.get_original('_thread', 'start_new_thread')
#: Another reason for the loop to run, after these seconds.
OTHER = 3.0


def waited(wait, wake):
    """Return how long ``wait`` takes if a real thread calls ``wake`` after half a second."""
    def act():
        sleep(0.5)
        wake()

    timer = gevent.spawn_later(OTHER, int)
    began = time.monotonic()
    start(act, ())
    wait()
    timer.kill()
    return time.monotonic() - began


print('gevent', gevent.__version__)
event, items, simple = threading.Event(), queue.Queue(), queue.SimpleQueue()
found = {
    'Event.set': waited(event.wait, event.set),
    'Queue.put': waited(items.get, lambda: items.put(1)),
    'SimpleQueue.put': waited(simple.get, lambda: simple.put(1)),
}
late = {name: seconds > OTHER - 1 for name, seconds in found.items()}
for name, value in late.items():
    print(f'{name} of a thread wakes a greenlet', 'when a timer expires' if value else 'at once')
assert late == {'Event.set': False, 'Queue.put': True, 'SimpleQueue.put': True}
PYTHON
"$work/venv/bin/python" "$work/show.py"
# gevent 26.9.0
# Event.set of a thread wakes a greenlet at once
# Queue.put of a thread wakes a greenlet when a timer expires
# SimpleQueue.put of a thread wakes a greenlet when a timer expires
