"""A page that posts, and a listener that never responds to that."""

from __future__ import annotations

from geventnode import http

__all__ = ['server']

#: Post on the connection of the page, and show the result.
PAGE = """<!DOCTYPE html><title>waiting</title><script>
fetch('/order', {method: 'POST', body: 'one'}).then(
  response => response.text().then(text => document.title = text), error => document.title = 'failed');
</script>"""

orders = []


def listener(request, response):
    if request.url == '/':
        response.write_head(200, {'Content-Type': 'text/html'})
        response.end(PAGE)
    elif request.url == '/order':
        orders.append(request.read())
    else:
        response.end(str(len(orders)))


server = http.create_server(listener, timeout=1)
