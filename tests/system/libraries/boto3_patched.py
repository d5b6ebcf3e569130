"""boto3 in a patched program, with a server and a client of geventnode beside it.

It is started as ``boto3_patched.py URL``, with the URL of an S3 server, and prints its results as JSON.
"""

from gevent import monkey

monkey.patch_all()

import io  # noqa: E402 - after patching
import json  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

import boto3  # noqa: E402
import gevent  # noqa: E402
from boto3.s3.transfer import TransferConfig  # noqa: E402
from botocore.config import Config  # noqa: E402
from gevent.event import Event  # noqa: E402

from geventnode import http  # noqa: E402

#: More than one part of an upload.
DATA = random.Random(1).randbytes(9_000_000)
TOGETHER = 12


def client(url: str, **options: Any) -> Any:
    return boto3.client(
        's3',
        endpoint_url=url,
        region_name='us-east-1',
        aws_access_key_id='key',
        aws_secret_access_key='secret',
        config=Config(s3={'addressing_style': 'path'}, retries={'max_attempts': 0}, **options),
    )


def objects(s3: Any) -> list[bool]:
    """Upload and download in one piece, in parts by several threads, and in a stream."""
    s3.create_bucket(Bucket='bucket')
    s3.put_object(Bucket='bucket', Key='small', Body=b'hello')
    config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=4)
    s3.upload_fileobj(io.BytesIO(DATA), 'bucket', 'large', Config=config)
    received = io.BytesIO()
    s3.download_fileobj('bucket', 'large', received, Config=config)
    streamed = b''.join(s3.get_object(Bucket='bucket', Key='large')['Body'].iter_chunks(100_000))
    return [
        s3.get_object(Bucket='bucket', Key='small')['Body'].read() == b'hello',
        received.getvalue() == DATA,
        streamed == DATA,
    ]


def from_listeners(s3: Any, agent: http.Agent) -> list[str]:
    """Use boto3 in listeners, which wait for S3 at the same time."""

    def listener(request: Any, response: Any) -> None:
        response.end(s3.get_object(Bucket='bucket', Key='small')['Body'].read())

    with http.create_server(listener) as server:
        server.listen(0, '127.0.0.1')
        url = f'http://127.0.0.1:{server.address()["port"]}/'
        return [http.get(url, agent=agent).get_response().read().decode() for _ in range(3)]


def waiting(agent: http.Agent) -> int:
    """Return how many calls of boto3 have waited for their responses at the same time."""
    arrived, complete = [], Event()

    def listener(request: Any, response: Any) -> None:
        arrived.append(request.url)
        if len(arrived) == TOGETHER:
            complete.set()
        complete.wait()
        response.end(b'x')

    with http.create_server(listener) as server:
        server.listen(0, '127.0.0.1')
        s3 = client(f'http://127.0.0.1:{server.address()["port"]}', max_pool_connections=TOGETHER)
        calls = [gevent.spawn(s3.get_object, Bucket='bucket', Key=str(number)) for number in range(TOGETHER)]
        gevent.joinall(calls, raise_error=True)
        s3.close()
    return len(arrived)


def main() -> None:
    """Print the results."""
    s3 = client(sys.argv[1])
    with http.Agent(keep_alive=True) as agent:
        found = {'objects': objects(s3), 'listeners': from_listeners(s3, agent), 'together': waiting(agent)}
        url = s3.generate_presigned_url('get_object', Params={'Bucket': 'bucket', 'Key': 'large'})
        found['presigned'] = http.get(url, agent=agent).get_response().read() == DATA
        # the agent has only seen the requests of the program itself
        found['agent'] = agent.statistics()['requests']
    s3.close()
    sys.stdout.write(json.dumps(found))


if __name__ == '__main__':
    main()
