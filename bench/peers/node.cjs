// node:http as its documentation shows it.
const http = require('node:http');

const server = http.createServer((request, response) => {
  const text = request.url === '/health' ? 'healthy' : 'Hello from Rust in Docker!\n';
  response.writeHead(200, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
});
// The default, 5 s, would close the connections that the memory part holds open.
server.keepAliveTimeout = 75_000;
server.listen(Number(process.env.PORT), '127.0.0.1');
