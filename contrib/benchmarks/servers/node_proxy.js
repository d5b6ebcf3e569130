// A usual reverse proxy with Node's http, for the origin at the given port.
'use strict';

const http = require('http');
const { pipeline } = require('stream');

const agent = new http.Agent({ keepAlive: true });
const port = Number(process.argv[2]);

const server = http.createServer((request, response) => {
  const { method, url, headers } = request;
  const upstream = http.request({ host: '127.0.0.1', port, method, path: url, headers, agent }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    pipeline(answer, response, () => {});
  });
  upstream.on('error', () => response.destroy());
  pipeline(request, upstream, () => {});
});

server.listen({ port: 0, host: '127.0.0.1' }, () => console.log(server.address().port));
