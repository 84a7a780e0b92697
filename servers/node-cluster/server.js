// A cluster of processes on an inherited socket.
const cluster = require('cluster');
const http = require('http');

// The workers accept by themselves. By default the primary accepts and hands connections on, also to workers that stop,
// and those are lost.
cluster.schedulingPolicy = cluster.SCHED_NONE;

const WORKERS = 2;
const generation = process.env.SERVER_STARTER_GENERATION;

function primary() {
  for (let number = 0; number < WORKERS; number++) cluster.fork();
  // The superdaemon tells only the primary.
  process.on('SIGTERM', () => Object.values(cluster.workers).forEach((worker) => worker.send('stop')));
  let left = WORKERS;
  cluster.on('exit', () => {
    if (--left === 0) process.exit(0);
  });
}

function worker() {
  let closing = false;
  const server = http.createServer((request, response) => {
    const answer = () => {
      const body = `hello from generation ${generation}, process ${process.pid}\n`;
      if (closing) response.setHeader('Connection', 'close');
      response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': Buffer.byteLength(body) });
      response.end(body);
    };
    if (request.url === '/slow') setTimeout(answer, 300);
    else answer();
  });
  const [listener] = process.env.SERVER_STARTER_PORT.split(';');
  // The number of the descriptor in the primary.
  server.listen({ fd: Number(listener.slice(listener.lastIndexOf('=') + 1)) }, 4096);
  process.on('message', (message) => {
    if (message !== 'stop') return;
    closing = true;
    server.close(() => process.disconnect());
  });
}

if (cluster.isPrimary) primary();
else worker();
