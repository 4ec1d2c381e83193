"""http.server as its documentation shows it, with HTTP/1.1 for keep-alive and no access log."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one segment: unbuffered, the body would wait for the head's ACK.
    wbufsize = -1

    def do_GET(self):
        text = b"healthy" if self.path == "/health" else b"Hello from Rust in Docker!\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    # The default, 5, would drop connections of the load generator.
    request_queue_size = 1024


server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.serve_forever()
