"""A streaming reverse proxy: bodies of any size pass in both directions, at the pace of the slower side.

python contrib/examples/reverse_proxy.py HOST:PORT [PORT to listen on]
"""

from __future__ import annotations

import sys
from typing import Any

from geventnode import errors, http, stream

__all__ = ['create_proxy']

HOP_BY_HOP = {
    'connection',
    'keep-alive',
    'proxy-authenticate',
    'proxy-authorization',
    'proxy-connection',
    'te',
    'trailer',
    'transfer-encoding',
    'upgrade',
}


def end_to_end(message: http.IncomingMessage) -> list[tuple[str, str]]:
    """Return the fields to forward (RFC 9110, section 7.6.1); Content-Length is always one of them."""
    named = {name.strip() for name in message.headers.get('connection', '').lower().split(',')} - {'content-length'}
    kept = [field for field in message.raw_headers if field[0].lower() not in HOP_BY_HOP | named]
    return [*kept, ('Via', f'{message.http_version} geventnode')]


def create_proxy(host: str, port: int, timeout: float = 60, **options: Any) -> http.Server:
    """Return a proxy, not yet listening, for the server at ``host`` and ``port``; ``timeout`` limits its silence."""
    agent = http.Agent(keep_alive=True, max_sockets=float('inf'))

    def forward(request: http.IncomingMessage, response: http.ServerResponse) -> None:
        framing = [('Transfer-Encoding', 'chunked')] if 'transfer-encoding' in request.headers else []
        upstream = http.request(
            host=host,
            port=port,
            method=request.method,
            path=request.url,
            agent=agent,
            headers=end_to_end(request) + framing,
            timeout=timeout,
        )
        faults: list[Exception] = []
        # the client has disconnected, or its body is truncated or malformed
        request.on('error', faults.append).on('error', lambda error: upstream.abort())
        # get_response() raises the error, unless a response has arrived before the rest of the body was sent
        upstream.on('error', lambda error: None)
        try:
            if request.complete:
                upstream.end()
            elif 'expect' not in request.headers or upstream.wait_continue(1):
                upstream.flush_headers()
                request.pipe(upstream)
            answer = upstream.get_response()
            response.write_head(answer.status_code, answer.status_message, end_to_end(answer))
            stream.pipeline(answer, response)
        except errors.GeventnodeError as error:
            upstream.abort()
            if response.headers_sent or request.aborted:
                response.destroy()
            else:
                status = 504 if isinstance(error, errors.RequestTimeout) else 502
                response.write_head(getattr(faults[0], 'status', 400) if faults else status).end()

    return http.create_server(forward, **options).on('close', agent.destroy)


if __name__ == '__main__':
    target, _, number = sys.argv[1].rpartition(':')
    proxy = create_proxy(target, int(number)).listen(int(sys.argv[2]) if sys.argv[2:] else 8000, '127.0.0.1')
    print(f'http://127.0.0.1:{proxy.address()["port"]}/ forwards to http://{sys.argv[1]}/', flush=True)
    proxy.serve_forever()
