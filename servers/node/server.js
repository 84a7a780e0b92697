// Node's own HTTP server on an inherited socket.
const http = require('http');

const generation = process.env.SERVER_STARTER_GENERATION;
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
// The length of the queue is the second argument; as a field of the first it would be ignored.
server.listen({ fd: Number(listener.slice(listener.lastIndexOf('=') + 1)) }, 4096);

// Closes idle connections, too, from version 19 on.
process.on('SIGTERM', () => {
  closing = true;
  server.close(() => process.exit(0));
});
