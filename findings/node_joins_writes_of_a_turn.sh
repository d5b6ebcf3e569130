#!/bin/sh
# Node 26 sends the writes of one turn of its loop as one chunk; Node 24 sends each as its own.
#
# response.write() three times and end() in one turn were four chunks up to Node 24. Node 26 joins them into one. The
# content is the same, but a client that takes each chunk for a message (a progress display, a naive parser of lines of
# JSON) sees one message instead of four after an upgrade of the server, and only when writes follow each other closely.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > show.js <<'JS'
const http = require('http'), net = require('net')
const server = http.createServer((request, response) => {
  for (const letter of 'abc') response.write(letter)
  response.end('d')
}).listen(0, '127.0.0.1', () => {
  const client = net.connect(server.address().port, '127.0.0.1')
  let received = ''
  client.on('data', data => { received += data }).on('end', () => {
    const body = received.slice(received.indexOf('\r\n\r\n') + 4)
    console.log(process.version, JSON.stringify(body))
    const joined = process.version.startsWith('v26')
    process.exit(body === (joined ? '4\r\nabcd\r\n0\r\n\r\n' : '1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n0\r\n\r\n') ? 0 : 1)
  })
  client.end('GET / HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\r\n')
})
JS
for package in node@24.13.0 node@26.10.0; do
    folder=$work/for-$package
    mkdir "$folder"
    npm install --silent --no-fund --no-audit --prefix "$folder" "$package" >/dev/null
    "$folder/node_modules/.bin/node" show.js
done
# v24.13.0 "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n0\r\n\r\n"
# v26.10.0 "4\r\nabcd\r\n0\r\n\r\n"
