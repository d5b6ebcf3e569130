"""docker-py over a Unix socket, in a patched program: with its own adapter, and with an agent.

It is started as ``docker_unix.py PATH``, serves a daemon on the socket itself, and prints its results as JSON.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after patching
import sys  # noqa: E402
from typing import Any  # noqa: E402

import docker  # noqa: E402
import gevent  # noqa: E402

from geventnode import http  # noqa: E402
from geventnode.integrations.requests import AgentAdapter  # noqa: E402

PATH = sys.argv[1]
TOGETHER = 3


class Daemon:
    """Respond like a Docker daemon."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def __call__(self, request: Any, response: Any) -> None:
        request.read()
        path = request.url.partition('?')[0]
        if path.endswith('/containers/json'):
            # each waits for the other ones
            self.waiting.append(response)
            if len(self.waiting) == TOGETHER:
                while self.waiting:
                    self.waiting.pop().end('[]')
        elif path.endswith('/events'):
            for number in range(3):
                response.write(json.dumps({'number': number}))
            response.end()
        elif path.endswith('/start'):
            # all in one piece, as a daemon that is quick
            socket, _ = response.upgrade({'Upgrade': 'tcp'})
            socket.end(b'first and last')
        elif path.endswith('/exec'):
            response.status_code = 201
            response.end(json.dumps({'Id': 'one'}))
        else:
            response.end(json.dumps({'Running': False, 'ExitCode': 0}))


def used(client: docker.DockerClient) -> dict[str, Any]:
    """Return the results of a client."""
    lists = [gevent.spawn(client.api.containers) for _ in range(TOGETHER)]
    return {
        'lists': [each.get() for each in lists],
        'events': [each['number'] for each in client.api.events(decode=True)],
        'output': b''.join(
            client.api.exec_start(client.api.exec_create('abc', 'x')['Id'], tty=True, stream=True)
        ).decode(),
    }


class DaemonAgent(http.Agent):
    """An agent for the socket of a daemon."""

    def create_connection(self, options: Any) -> Any:
        """Connect to the socket; host and port have no meaning."""
        return super().create_connection({**options, 'socket_path': PATH})


with http.create_server(Daemon()) as server:
    server.listen(PATH)
    own = docker.DockerClient(base_url=f'unix://{PATH}', version='1.45')
    found = {'own': used(own)}
    own.close()
    client = docker.DockerClient(base_url='tcp://docker:2375', version='1.45')
    with DaemonAgent(max_sockets=10, keep_alive=True) as agent:
        client.api.trust_env = False
        client.api.mount('http://', AgentAdapter(agent))
        found['agent'] = used(client)
        found['requests'] = agent.statistics()['requests']
    client.close()
sys.stdout.write(json.dumps(found))
