// Node's own http, or http2 with the argument "http2", with the handlers of geventnode_server.py.
//
// The head has a Content-Length, which is fastest in Node: without it, `end` would send chunks.
'use strict';

const fs = require('fs');
const http = require('http');
const http2 = require('http2');
const https = require('https');

const CHUNK = Buffer.alloc(65536, 'x');
const LARGE = Buffer.from(`{"text": "${'x'.repeat(16372)}"}`);
const PIECE = Buffer.alloc(100, 'x');
const PIECES = 10;
const TEXT = 'x'.repeat(200);
const BACKLOG = 2048;

function text(response, body) {
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': body.length });
  response.end(body);
}

function json(response, body) {
  response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': body.length });
  response.end(body);
}

function read(request, response) {
  const parts = [];
  request.on('data', (chunk) => { parts.push(chunk); });
  request.on('end', () => json(response, `{"length": ${JSON.parse(Buffer.concat(parts)).text.length}}`));
}

function pieces(response) {
  response.writeHead(200, { 'Content-Type': 'text/plain' });
  for (let count = 0; count < PIECES; count += 1) response.write(PIECE);
  response.end();
}

function item(request, response) {
  const number = request.url.slice(6, request.url.indexOf('?'));
  const body = `{"id": ${number}, "text": "${TEXT.slice(0, 100 + Number(number) % 97)}"}`;
  response.writeHead(200, {
    'Content-Type': 'application/json',
    'Content-Length': body.length,
    'X-Request-Id': request.headers['x-request-id'],
  });
  response.end(body);
}

function upload(request, response) {
  let received = 0;
  request.on('data', (chunk) => { received += chunk.length; });
  request.on('end', () => text(response, String(received)));
}

function download(request, response) {
  let remaining = Number(request.url.split('=')[1]);
  response.writeHead(200, { 'Content-Type': 'application/octet-stream', 'Content-Length': remaining });
  const more = () => {
    while (remaining > 0) {
      const chunk = remaining < CHUNK.length ? CHUNK.subarray(0, remaining) : CHUNK;
      remaining -= chunk.length;
      if (!response.write(chunk)) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
}

function handle(request, response) {
  if (request.url === '/' || request.url === '/stated') {
    text(response, 'hello world');
  } else if (request.url === '/agent') {
    void request.headers['user-agent'];
    text(response, 'hello world');
  } else if (request.url === '/read') {
    read(request, response);
  } else if (request.url === '/json') {
    json(response, LARGE);
  } else if (request.url === '/chunks') {
    pieces(response);
  } else if (request.url === '/corked') {
    response.cork();
    pieces(response);
  } else if (request.url === '/upload') {
    upload(request, response);
  } else if (request.url.startsWith('/item/')) {
    item(request, response);
  } else {
    download(request, response);
  }
}

function create(argument) {
  if (argument === 'http2') return http2.createServer(handle);
  if (!argument) return http.createServer(handle);
  const pem = fs.readFileSync(argument);
  return https.createServer({ cert: pem, key: pem }, handle);
}

const server = create(process.argv[2]);

// The default of five seconds would close idle connections during a measurement.
server.keepAliveTimeout = 120000;
server.listen({ port: 0, host: '127.0.0.1', backlog: BACKLOG }, () => console.log(server.address().port));
