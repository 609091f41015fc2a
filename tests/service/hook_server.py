"""A web server that is told of things."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from forestall.adapters.notices.sender import SIGNATURE


class Hook:
    """A web server that refuses the first requests."""

    def __init__(self, refuse: int) -> None:
        self.taken, self.refused = list[tuple[dict[str, Any], str, bytes]](), 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if hook.refused < refuse:
                    hook.refused += 1
                    self.send_response(503)
                else:
                    hook.taken.append((json.loads(body), self.headers[SIGNATURE], body))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/ready"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
