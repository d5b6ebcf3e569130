// A client with the npm package ws: sends messages of many kinds and sizes, and compares the echo.
// Arguments: the URL, and JSON of the options of permessage-deflate (false: none).
const WebSocket = require('ws');
const [url, deflate] = process.argv.slice(2);
const messages = [];
for (const size of [0, 1, 125, 126, 127, 65535, 65536, 1000000]) {
  messages.push('x'.repeat(size), Buffer.alloc(size, 7), '\u{1f600}'.repeat(size / 16), Buffer.from(
    Array.from({ length: Math.min(size, 70000) }, (_, place) => (place * 7919) % 251)));
}
const socket = new WebSocket(url, { perMessageDeflate: JSON.parse(deflate) });
let next = 0;
let pongs = 0;
socket.on('open', () => { socket.ping('there?'); socket.send(messages[0]); });
socket.on('pong', () => { pongs += 1; });
socket.on('message', (data, binary) => {
  const sent = messages[next];
  const same = binary ? Buffer.compare(data, Buffer.from(sent)) === 0 && typeof sent !== 'string' : data.toString() === sent;
  if (!same) { console.log(`message ${next} differs`); process.exit(1); }
  next += 1;
  if (next < messages.length) {
    // in two fragments, cut anywhere in a character
    const bytes = Buffer.from(messages[next]);
    const half = bytes.length >> 1;
    const isBinary = typeof messages[next] !== 'string';
    socket.send(bytes.subarray(0, half), { fin: false, binary: isBinary });
    socket.send(bytes.subarray(half), { fin: true, binary: isBinary });
  } else socket.close(4001, 'done');
});
socket.on('close', (code, reason) => console.log(`${next} messages, ${pongs} pong, closed with ${code}`));
