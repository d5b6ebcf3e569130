"""Both libraries named sseclient: an event is sent after the previous one was received."""

from __future__ import annotations

from typing import Any

from mounted import URL, say, session

# isort: split
import sseclient

received: dict[str, Any] = {}
for way in ('chunked', 'length'):
    asking = session()
    address = f'{URL}/events/{way}'
    if hasattr(sseclient.SSEClient, 'events'):
        # it reads in blocks, and gets an incomplete block only at the end of a chunk
        if way == 'length':
            continue
        events = sseclient.SSEClient(asking.get(address, stream=True)).events()
    else:
        events = iter(sseclient.SSEClient(address, session=asking))
    received[way] = []
    for event in events:
        received[way].append((event.event, event.data))
        session().post(f'{URL}/next')
        if event.data == 'last':
            break
say(received)
