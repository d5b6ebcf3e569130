#!/bin/sh
# Up to Node 24, the body of an upgrade request is no body: the 'upgrade' listener gets it as the first bytes of the socket.
#
# With Content-Length and Upgrade in one request (RFC 9110, section 7.8, allows it), the request ends empty, and the body
# is in "head", joined with the first bytes of the new protocol, which a protocol that begins with the client then
# misreads. Without an 'upgrade' listener, the same request has its body. Node 26 gives the body to the request and the
# rest to "head", so a server that worked around it reads the body twice or not at all after an update.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > show.js <<'JS'
const http = require('http'), net = require('net')
const server = http.createServer().on('upgrade', (request, socket, head) => {
  let body = ''
  request.setEncoding('latin1').on('data', data => { body += data }).on('end', () => {
    console.log(process.version, 'body:', JSON.stringify(body), 'head:', JSON.stringify(String(head)))
    const separated = process.version.startsWith('v26')
    const expected = separated ? ['hello', 'FIRST'] : ['', 'helloFIRST']
    process.exit(body === expected[0] && String(head) === expected[1] ? 0 : 1)
  })
}).listen(0, '127.0.0.1', () => {
  net.connect(server.address().port, '127.0.0.1').write('POST / HTTP/1.1\r\nHost: example\r\nConnection: Upgrade\r\n' +
    'Upgrade: example\r\nContent-Length: 5\r\n\r\nhelloFIRST')
})
JS
for package in node@24.13.0 node@26.10.0; do
    folder=$work/for-$package
    mkdir "$folder"
    npm install --silent --no-fund --no-audit --prefix "$folder" "$package" >/dev/null
    "$folder/node_modules/.bin/node" show.js
done
# v24.13.0 body: "" head: "helloFIRST"
# v26.10.0 body: "hello" head: "FIRST"
