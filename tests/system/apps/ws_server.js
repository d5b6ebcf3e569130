// A server with the npm package ws that echoes. It prints its port, and ends with its standard input.
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: JSON.parse(process.argv[2]) });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (socket) => {
  socket.on('message', (data, binary) => socket.send(data, { binary }));
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
