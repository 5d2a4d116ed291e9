# Writes are served in nrt, everything else where it comes in.
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class App(BaseHTTPRequestHandler):
    def serve(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        here = self.headers.get("Edge-Geo")  # where this instance serves, says the edge
        if self.command == "POST" and here != "nrt" and "Replay-Geo-Failed" not in self.headers:
            self.send_response(409)
            self.send_header("Replay-Geo", 'nrt;timeout=2;fallback=self;state="a write"')
            return self.end_headers()
        why = self.headers.get("Replay-Geo-Src", "it came in here")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.command} served in {here}: {why}\n".encode())

    do_GET = do_POST = serve

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), App).serve_forever()
