"""A proxy that passes requests on and keeps every response header but the content's to itself. Prints its address.

python headerless_proxy.py ADDRESS
"""

from __future__ import annotations

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEPT = ("content-type",)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target = ""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        upstream = http.client.HTTPConnection(self.target, 80, timeout=60)
        try:
            headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            data = answer.read()
        finally:
            upstream.close()
        self.send_response(answer.status)
        for name in KEPT:
            if answer.getheader(name):
                self.send_header(name, str(answer.getheader(name)))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _pass_on

    def log_message(self, *arguments: object) -> None:
        pass


def main() -> None:
    Handler.target = sys.argv[1]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
