// Node's own client against the server at the address given: each check prints its name when it has passed.
'use strict';
const assert = require('node:assert');
const http = require('node:http');
const net = require('node:net');

const base = new URL(process.argv[2]);
const agent = new http.Agent({keepAlive: true, maxSockets: 8});

const ask = (path, {body, ...options} = {}) => new Promise((resolve, reject) => {
  const request = http.request(new URL(path, base), {agent, ...options}, (response) => {
    const chunks = [];
    response.on('data', (chunk) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () => resolve({response, text: Buffer.concat(chunks).toString()}));
  });
  request.on('error', reject);
  for (const piece of body ?? []) request.write(piece);
  if (options.trailers) request.addTrailers(options.trailers);
  request.end();
});

const checks = {
  async 'a thousand requests on kept connections'() {
    const paths = Array.from({length: 1000}, (_, n) => `/number/${n}`);
    const answers = await Promise.all(paths.map((path) => ask(path)));
    answers.forEach(({response, text}, n) => {
      assert.strictEqual(response.statusCode, 200);
      assert.strictEqual(text, `GET ${paths[n]} HTTP/1.1`);
    });
    const ports = await Promise.all(paths.slice(0, 100).map(() => ask('/port')));
    assert(new Set(ports.map(({text}) => text)).size <= 8);
  },

  async 'a chunked request body'() {
    const pieces = Array.from({length: 100}, (_, n) => Buffer.alloc(1000 + n, n));
    const {text} = await ask('/count', {method: 'POST', body: pieces});
    assert.strictEqual(Number(text), pieces.reduce((sum, piece) => sum + piece.length, 0));
  },

  async 'trailers both ways'() {
    const {response, text} = await ask('/echo', {
      method: 'POST', headers: {Trailer: 'X-Sent'}, trailers: {'X-Sent': 'from Node'}, body: ['one', 'two']});
    assert.strictEqual(text, 'onetwo');
    assert.strictEqual(response.headers.trailer, 'X-Seen');
    assert.deepStrictEqual({...response.trailers}, {'x-seen': 'from Node'});
  },

  async 'HEAD has the headers and no body'() {
    const {response, text} = await ask('/head', {method: 'HEAD'});
    assert.strictEqual(text, '');
    assert.strictEqual(response.headers['content-length'], String('HEAD /head HTTP/1.1'.length));
  },

  async 'Expect: 100-continue'() {
    await new Promise((resolve, reject) => {
      const request = http.request(new URL('/count', base), {
        agent, method: 'POST', headers: {'Expect': '100-continue', 'Content-Length': 5}});
      request.on('continue', () => request.end('12345'));
      request.on('response', (response) => response.on('data', (data) => {
        assert.strictEqual(String(data), '5');
      }).on('end', resolve));
      request.on('error', reject);
      request.flushHeaders();
    });
  },

  async 'pipelined requests are answered in order'() {
    const count = 200;
    const socket = net.connect(Number(base.port), base.hostname);
    for (let n = 0; n < count; n++) {
      socket.write(`GET /pipelined/${n} HTTP/1.1\r\nHost: a\r\n${n === count - 1 ? 'Connection: close\r\n' : ''}\r\n`);
    }
    let text = '';
    for await (const chunk of socket) text += chunk;
    const order = [...text.matchAll(/GET \/pipelined\/(\d+) HTTP/g)].map((found) => Number(found[1]));
    assert.deepStrictEqual(order, Array.from({length: count}, (_, n) => n));
  },
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(name);
  }
  agent.destroy();
})();
