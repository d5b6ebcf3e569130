// The site of the comparison by Node's http; see site_of.py. Prints the port.
'use strict';
const http = require('http');

const outcomes = [];
const waiting = [];
const record = (outcome) => { if (waiting.length) waiting.shift().end(outcome); else outcomes.push(outcome); };

const server = http.createServer((request, response) => {
  if (request.url === '/outcome') {
    if (outcomes.length) response.end(outcomes.shift()); else waiting.push(response);
  } else if (request.url === '/upload') {
    let size = 0;
    request.on('data', (chunk) => { size += chunk.length; });
    request.on('error', () => record('raised'));
    request.on('end', () => { record(`complete: ${size} bytes`); response.end(); });
  } else if (request.url === '/wait') {
    response.on('close', () => record('notified'));
    record('waiting');
  } else if (request.url === '/halfway') {
    response.write('part', () => response.destroy(new Error('halfway')));
  } else response.end('hello');
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
