// A server for the client's tests: echoes, trailers, hints, upgrades, and a body that never ends well.
'use strict';
const http = require('http');

const server = http.createServer({keepAliveTimeout: 2000}, (request, response) => {
  const url = request.url.split('?')[0];
  if (url === '/hints') {
    response.writeEarlyHints({link: '</style.css>; rel=preload'});
    response.end('hinted');
  } else if (url === '/trailers') {
    response.writeHead(200, {Trailer: 'X-Count'});
    let count = 0;
    request.on('data', (chunk) => { count += chunk.length; response.write(chunk); });
    request.on('end', () => { response.addTrailers({'X-Count': String(count)}); response.end(); });
  } else if (url === '/broken') {
    response.writeHead(200, {'Content-Length': '1000000'});
    response.write('x'.repeat(100000), () => request.socket.destroy());
  } else if (url === '/early') {
    response.writeHead(413, {Connection: 'close'});
    response.end('too large');
  } else if (url === '/count') {
    let count = 0;
    request.on('data', (chunk) => { count += chunk.length; });
    request.on('end', () => response.end(String(count)));
  } else {
    response.setHeader('X-Port', String(request.socket.remotePort));
    response.end(JSON.stringify({method: request.method, url: request.url, headers: request.headers}));
  }
});
server.on('upgrade', (request, socket) => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  socket.pipe(socket);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit(0));
