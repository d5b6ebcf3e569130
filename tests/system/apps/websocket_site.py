"""A Flask application and a listener that echo messages over geventnode's own WebSockets."""

from __future__ import annotations

import flask

from geventnode import http, websocket
from geventnode.errors import WebSocketClosed

__all__ = ['app', 'site']

OPTIONS = {'compression': {'minimum_size': 0}, 'max_message_size': 4 * 2**20}

app = flask.Flask(__name__)


@app.route('/echo', websocket=True)
def echo():
    """Send each message back until the client closes."""
    ws = flask.request.environ['geventnode.websocket'](**OPTIONS)
    for message in ws:
        ws.send(message)
    return ''


@app.errorhandler(WebSocketClosed)
def disconnected(error):
    """Accept that a client disconnects."""
    return ''


PAGE = """<!doctype html><title>echo</title><p id=result>waiting</p><script>
const sent = ['hello', '\\u00e4\\u20ac\\ud83d\\ude00'.repeat(10000), 'x'.repeat(1000000), ''];
const socket = new WebSocket(`ws://${location.host}/echo`, ['chat']);
let next = 0;
const result = text => { document.querySelector('#result').textContent = text; };
socket.onopen = () => socket.send(sent[next]);
socket.onmessage = event => {
  if (event.data !== sent[next]) { result(`wrong: message ${next}`); return; }
  next += 1;
  if (next < sent.length) socket.send(sent[next]);
  else socket.close(4000, 'enough');
};
const extension = () => socket.extensions.split(';')[0];
socket.onclose = event => result(`${socket.protocol} ${extension()} ${event.code} ${event.wasClean}`);
</script>"""


def page(request: http.IncomingMessage, response: http.ServerResponse) -> None:
    """Respond with a page that opens a WebSocket."""
    response.write_head(200, {'Content-Type': 'text/html; charset=utf-8'})
    response.end(PAGE)


site = http.create_server(page)


@site.on('upgrade')
@websocket.listener(subprotocols=['chat'], **OPTIONS)
def listen(ws: websocket.WebSocket) -> None:
    """Send each message back, by events."""
    ws.on('message', ws.send)
