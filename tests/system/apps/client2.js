// Node's http2 client: checks a server at the URL of the argument, and prints each passed check.
'use strict';

const assert = require('assert');
const http2 = require('http2');
const { once } = require('events');

const session = http2.connect(process.argv[2]);

async function ask(headers, body, trailers) {
  const stream = session.request(headers, { endStream: body === undefined, waitForTrailers: trailers !== undefined });
  if (trailers !== undefined) stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  if (body !== undefined) stream.end(body);
  let received = {};
  stream.on('trailers', (found) => { received = found; });
  const [head] = await once(stream, 'response');
  const parts = [];
  for await (const part of stream) parts.push(part);
  return { head, body: Buffer.concat(parts), trailers: received };
}

async function main() {
  const many = await Promise.all(Array.from({ length: 90 }, (_, number) => ask({ ':path': `/${number}` })));
  many.forEach(({ head, body }, number) => {
    assert.strictEqual(head[':status'], 200);
    assert.strictEqual(body.toString(), `GET /${number} HTTP/2.0`);
  });
  console.log('ninety requests at the same time');

  const large = Buffer.alloc(5e6, 'x');
  const echo = await ask({ ':method': 'POST', ':path': '/echo' }, large, { 'x-sent': 'yes' });
  assert.ok(echo.body.equals(large));
  assert.strictEqual(echo.trailers['x-seen'], 'yes');
  console.log('a large body and trailers both ways');

  const head = await ask({ ':method': 'HEAD', ':path': '/some' });
  assert.strictEqual(head.head['content-length'], '19');
  assert.strictEqual(head.body.length, 0);
  console.log('HEAD has the headers and no body');

  const left = session.request({ ':path': '/download?1000000000' });
  await once(left, 'data');
  left.close(http2.constants.NGHTTP2_CANCEL);
  await once(left, 'close');
  assert.strictEqual((await ask({ ':path': '/next' })).body.toString(), 'GET /next HTTP/2.0');
  console.log('a stream that was cancelled leaves the others alone');

  const continued = session.request({ ':method': 'POST', ':path': '/count', expect: '100-continue' });
  await once(continued, 'continue');
  continued.end('12345');
  const parts = [];
  for await (const part of continued) parts.push(part);
  assert.strictEqual(Buffer.concat(parts).toString(), '5');
  console.log('Expect: 100-continue');

  await new Promise((resolve, reject) => session.ping((error) => (error ? reject(error) : resolve())));
  console.log('PING');
  session.close();
}

main().catch((error) => { console.error(error); process.exit(1); });
