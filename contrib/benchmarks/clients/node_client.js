// Node's own http client with a kept pool, 32 requests at a time. bench/driving.py describes the output.
'use strict';
const http = require('http');

const WORKERS = 32;
const WINDOW = 64;
const SHARE = 0.1;
const [task, url, size, seconds] = process.argv.slice(2);
const agent = new http.Agent({keepAlive: true, maxSockets: WORKERS});
const {hostname, port, pathname} = new URL(url);
const options = {hostname, port, path: pathname, agent};
const now = () => Number(process.hrtime.bigint()) / 1e9;

let number = 0;

// A path and fields that no other request has: bench/driving.py has the same.
function item() {
  number += 1;
  const mixed = ((number * 2654435761) % 4294967296).toString(16).padStart(8, '0');
  const hexadecimal = number.toString(16);
  return {
    ...options,
    path: `/item/${number}?q=${mixed}`,
    headers: {
      'X-Request-Id': `${hexadecimal.padStart(8, '0')}-${mixed}`,
      traceparent: `00-${mixed}${mixed}${hexadecimal.padStart(16, '0')}-${mixed}${hexadecimal.padStart(8, '0')}-01`,
    },
  };
}

function ask(done) {
  http.get(task === 'items' ? item() : options, (response) => {
    let found = 0;
    response.on('data', (chunk) => { found += chunk.length; });
    response.on('end', () => {
      if (found !== Number(size)) throw new Error(`${found} bytes`);
      done();
    });
  });
}

function report(moments, began) {
  const took = now() - began;
  const windows = [];
  for (let index = 0; index + WINDOW < moments.length; index += WINDOW) {
    windows.push(moments[index + WINDOW] - moments[index]);
  }
  windows.sort((one, other) => one - other);
  const chosen = windows.slice(0, Math.max(1, Math.floor(windows.length * SHARE)));
  const sum = chosen.reduce((total, value) => total + value, 0);
  console.log(JSON.stringify({
    count: moments.length, seconds: took, fastest: chosen.length ? sum / chosen.length / WINDOW : 0,
  }));
  process.exit(0);
}

if (task === 'download') {
  const began = now();
  ask(() => report([], began));
} else {
  ask(() => {
    const moments = [];
    const began = now();
    const stop = began + Number(seconds);
    let working = WORKERS;
    const again = () => {
      if (now() >= stop) {
        working -= 1;
        if (!working) report(moments, began);
      } else {
        ask(() => { moments.push(now()); again(); });
      }
    };
    for (let index = 0; index < WORKERS; index += 1) again();
  });
}
