"""The cleaner "urllib3" on real connections over the loopback."""

from __future__ import annotations

from tests.libraries.fresh import in_fresh_process


def test_idle_connections_close_and_sessions_go_on():
    idle, after, again = in_fresh_process(
        """
        import http.server, threading
        import requests
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")
            def log_message(self, *words):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        sessions = [requests.Session() for _ in range(10)]
        for session in sessions:
            session.trust_env = False
        def connections():
            return sum(c.status == "ESTABLISHED" and c.raddr.port == server.server_port
                       for c in process.net_connections() if c.raddr)
        in_flight = sessions[0].get(address, stream=True)
        for session in sessions[1:]:
            session.get(address)
        idle = connections()
        clean("urllib3", "gc")
        after = connections()
        text = in_flight.text
        print(json.dumps([idle, after, [text, sessions[1].get(address).text]]))
        """
    )
    assert idle == 10
    assert after == 1, "the response that is still being read"
    assert again == ["ok", "ok"]
