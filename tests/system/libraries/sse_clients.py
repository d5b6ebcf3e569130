"""Both libraries called sseclient: the next event is sent when the one before it was received."""

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
        # its file is read by blocks, of which only chunks are handed on before they are full
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
