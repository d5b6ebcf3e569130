// Make requests at the same time by Node's http, with an Agent with maxSockets. Prints the queue and the outcome.
'use strict';
const http = require('http');

const [url, count, maxSockets] = process.argv.slice(2);
const agent = new http.Agent({maxSockets: Number(maxSockets)});
const get = () => new Promise((resolve, reject) => {
  http.get(url, {agent}, (response) => {
    response.on('error', reject);
    response.on('end', resolve);
    response.resume();
  }).on('error', reject);
});
Promise.all(Array.from({length: Number(count)}, get)).then(
  () => console.log('complete'),
  () => console.log('raised'),
);
setImmediate(() => console.log(`waiting: ${Object.values(agent.requests).flat().length}`));
