// Parses bytes with Node's http. Each line of input is JSON: {kind, method, data (base64)}; each line of output is
// JSON: {messages, error}. The bytes arrive at once, through a stream in this process, and then the stream ends.
'use strict';

const http = require('http');
const readline = require('readline');
const { Duplex } = require('stream');

class Wire extends Duplex {
  output = '';

  _read() {}
  _write(chunk, encoding, callback) { this.output += chunk.toString('latin1'); callback(); }
  setTimeout() { return this; }
  setNoDelay() { return this; }
  setKeepAlive() { return this; }
  ref() { return this; }
  unref() { return this; }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const reason = (error) => error.code || error.name;

// Node has decoded the fields as latin1.
function parsed(message, body, start) {
  return { start, version: message.httpVersion, headers: message.rawHeaders, trailers: message.rawTrailers,
    body: Buffer.concat(body).toString('base64') };
}

async function requests(data) {
  // in the order of the heads; null is an incomplete message
  const messages = [];
  let error = null;
  const take = (request, response) => {
    const place = messages.push(null) - 1;
    const body = [];
    request.on('data', (chunk) => body.push(chunk));
    request.on('error', () => {});
    request.on('end', () => {
      messages[place] = parsed(request, body, [request.method, request.url]);
      response.end();
    });
  };
  const server = http.createServer(take);
  server.on('checkContinue', take);
  server.on('checkExpectation', take);
  server.on('connect', (request, socket) => {
    messages.push(parsed(request, [], [request.method, request.url]));
    socket.destroy();
  });
  // not destroyed at once, because Node emits the requests before the error later
  server.on('clientError', (found) => { error = error || reason(found); });
  const wire = new Wire();
  wire.on('error', () => {});
  server.emit('connection', wire);
  wire.push(data);
  for (let turns = 0; turns < 10; turns += 1) await turn();
  wire.push(null);
  for (let turns = 0; turns < 10 && !wire.destroyed; turns += 1) await turn();
  wire.destroy();
  await turn();
  // Node refuses a bad Host without an event
  if (!error && wire.output.includes('HTTP/1.1 400')) error = 'answered with 400';
  const open = messages.indexOf(null);
  if (open >= 0 && !error) error = 'incomplete';
  return { messages: open < 0 ? messages : messages.slice(0, open), error };
}

async function responses(data, method, upgrade) {
  const messages = [];
  let error = null;
  const wire = new Wire();
  const headers = upgrade ? { Connection: 'Upgrade', Upgrade: 'x' } : {};
  const request = http.request({ method, host: 'a', headers, path: '/', createConnection: () => wire });
  let answered = false;
  request.on('upgrade', (response, socket) => {
    if (!answered) messages.push(parsed(response, [], [response.statusCode, response.statusMessage]));
    socket.destroy();
  });
  request.on('error', (found) => { error = error || reason(found); });
  request.on('response', (response) => {
    answered = true;
    const body = [];
    response.on('data', (chunk) => body.push(chunk));
    response.on('error', (found) => { error = error || reason(found); });
    response.on('end', () => {
      messages.push(parsed(response, body, [response.statusCode, response.statusMessage]));
    });
  });
  request.end();
  await turn();
  wire.push(data);
  for (let turns = 0; turns < 10; turns += 1) await turn();
  wire.push(null);
  for (let turns = 0; turns < 10; turns += 1) await turn();
  request.destroy();
  wire.destroy();
  await turn();
  // bytes after the response belong to the next one
  return { messages: messages.slice(0, 1), error: messages.length ? null : error };
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { kind, method, upgrade, data } = JSON.parse(line);
    const bytes = Buffer.from(data, 'base64');
    const found = kind === 'request' ? await requests(bytes) : await responses(bytes, method, upgrade);
    process.stdout.write(JSON.stringify(found) + '\n');
  }
}

main();
