#!/bin/sh
# h2 ends the connection with FLOW_CONTROL_ERROR at an empty DATA frame on a stream with a negative window.
#
# A client that lowers SETTINGS_INITIAL_WINDOW_SIZE makes the windows of streams with data under way negative, which is
# valid (RFC 9113, section 6.9.2). A frame without bytes consumes no window, so the end of such a response can be sent
# at once (section 6.9.1). The receiver in h2 compares the window with the length 0 and takes it for exceeded: not the
# stream but the connection ends, with all other requests. The end passes if the window is 0, and a trailer section
# always does.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check h2==4.4.1
cat > "$work/show.py" <<'PYTHON'
import importlib.metadata

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from h2.exceptions import FlowControlError
from h2.settings import SettingCodes

REQUEST = [(':method', 'GET'), (':scheme', 'http'), (':authority', 'a'), (':path', '/')]


def end_of_response(window, trailers=()):
    client = H2Connection(H2Configuration(client_side=True))
    server = H2Connection(H2Configuration(client_side=False))

    def deliver(sender, receiver):
        return receiver.receive_data(sender.data_to_send())

    client.initiate_connection()
    server.initiate_connection()
    client.send_headers(1, REQUEST, end_stream=True)
    deliver(client, server)
    server.send_headers(1, [(':status', '200')])
    server.send_data(1, bytes(1000))
    deliver(server, client)
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    deliver(client, server)
    deliver(server, client)
    assert client.remote_flow_control_window(1) == window - 1000
    if trailers:
        server.send_headers(1, trailers, end_stream=True)
    else:
        server.end_stream(1)
    try:
        return [type(event) for event in deliver(server, client) if isinstance(event, StreamEnded)]
    except FlowControlError as error:
        return f'{type(error).__name__}: {error}'


print('h2', importlib.metadata.version('h2'))
zero, negative, with_trailers = end_of_response(1000), end_of_response(10), end_of_response(10, [('sum', '1')])
print('window 0:             ', zero)
print('window -990:          ', negative)
print('window -990, trailer:', with_trailers)
assert zero == with_trailers == [StreamEnded]
assert negative.startswith('FlowControlError')
PYTHON
"$work/venv/bin/python" "$work/show.py"
# h2 4.4.1
# window 0:              [<class 'h2.events.StreamEnded'>]
# window -990:           FlowControlError: Flow control window shrunk below 0
# window -990, trailer: [<class 'h2.events.StreamEnded'>]
