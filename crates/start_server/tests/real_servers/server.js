// A server on an inherited socket: graceful on TERM, slow to start on request, and talkative in the file "record" about
// what it lives through.
const fs = require('fs');
const http = require('http');

const generation = process.env.SERVER_STARTER_GENERATION;
const record = (what) =>
  fs.appendFileSync(`${process.env.TESTKIT_DIR}/record`, `${what} gen=${generation} pid=${process.pid}\n`);

const server = http.createServer((request, response) => {
  const body = `generation=${generation} pid=${process.pid}\n`;
  response.writeHead(200, { 'Content-Length': Buffer.byteLength(body), Connection: 'close' });
  response.end(body);
});

record('start');
process.on('SIGTERM', () => {
  record('signal TERM');
  server.close(() => {
    record('exit 0');
    process.exit(0);
  });
});
setTimeout(() => {
  const entry = process.env.SERVER_STARTER_PORT.split(';')[0];
  const fd = Number(entry.slice(entry.lastIndexOf('=') + 1));
  server.listen({ fd }, 4096, () => record('ready'));
}, 1000 * Number(process.env.SLOW_START || 0));
