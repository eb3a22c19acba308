# SPDX-License-Identifier: Apache-2.0
"""`sinew schema` as an editor uses it: through the YAML language server (npm), over LSP on stdio."""
import json
import os
import subprocess
import sys
import threading

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(HERE, "../services")]
from services import Missing, npm  # noqa: E402

BINARY = os.path.abspath(os.environ.get("SINEW_BINARY", "build/sinew"))
PATIENCE = float(os.environ.get("SINEW_TEST_PATIENCE", "60"))
try:
    MODULES = npm(HERE)
except Missing as e:
    pytest.exit("SKIPPED, no editor is tested: %s" % e, returncode=77)


class Editor:
    """One client of one language server: messages with Content-Length on its stdin and stdout."""

    def __init__(self):
        server = os.path.join(MODULES, "yaml-language-server/bin/yaml-language-server")
        self.p = subprocess.Popen(["node", server, "--stdio"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.changed = threading.Condition()
        self.answers, self.diagnostics, self.next_id, self.version, self.gone = {}, {}, 0, 0, False
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        self.ask("initialize", processId=os.getpid(), rootUri=None, capabilities={
            "textDocument": {"completion": {"completionItem": {"documentationFormat": ["plaintext"]}},
                             "hover": {"contentFormat": ["markdown"]}},
            "workspace": {"configuration": True}})
        self.tell("initialized")

    def _read(self):
        while True:
            size = 0
            for line in iter(self.p.stdout.readline, b"\r\n"):
                if not line:
                    with self.changed:
                        self.gone = True
                        self.changed.notify_all()
                    return
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            self._take(json.loads(self.p.stdout.read(size)))

    def _take(self, m):
        if "method" in m and "id" in m:  # it asks us: settings are all defaults, no schema store
            items = m.get("params", {}).get("items", []) if m["method"] == "workspace/configuration" else None
            result = None if items is None else [
                {"schemaStore": {"enable": False}} if i.get("section") == "yaml" else {} for i in items]
            self._write({"id": m["id"], "result": result})
            return
        with self.changed:
            if m.get("method") == "textDocument/publishDiagnostics":
                self.diagnostics[m["params"]["uri"]] = m["params"]["diagnostics"]
            elif "id" in m:
                self.answers[m["id"]] = m
            self.changed.notify_all()

    def _write(self, m):
        data = json.dumps(dict(m, jsonrpc="2.0")).encode()
        self.p.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        self.p.stdin.flush()

    def tell(self, method, **params):
        self._write({"method": method, "params": params})

    def ask(self, method, **params):
        self.next_id += 1
        number = self.next_id
        self._write({"id": number, "method": method, "params": params})
        with self.changed:
            assert self.changed.wait_for(lambda: number in self.answers or self.gone, PATIENCE), method
            answer = self.answers[number]
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, text):
        """Its diagnostics: (line, text) of each."""
        uri = path.as_uri()
        path.write_text(text)
        self.diagnostics.pop(uri, None)
        self.tell("textDocument/didOpen", textDocument={
            "uri": uri, "languageId": "yaml", "version": 1, "text": text})
        with self.changed:
            assert self.changed.wait_for(lambda: uri in self.diagnostics, PATIENCE), uri
            found = self.diagnostics[uri]
        return [(d["range"]["start"]["line"], d["message"]) for d in found]

    def at(self, method, path, line, character):
        return self.ask("textDocument/" + method, textDocument={"uri": path.as_uri()},
                        position={"line": line, "character": character})

    def keys(self, path, line, character):
        """label -> text of each completion."""
        items = self.at("completion", path, line, character)
        items = items["items"] if isinstance(items, dict) else items or []
        return {i["label"]: text_of(i.get("documentation")) for i in items}

    def hover(self, path, line, character):
        h = self.at("hover", path, line, character)
        return text_of(h and h["contents"])

    def stop(self):
        try:
            self.ask("shutdown")
            self.tell("exit")
            self.p.wait(10)
        finally:
            self.p.kill()
            self.p.wait()
            self.thread.join(PATIENCE)
            self.p.stdin.close()
            self.p.stdout.close()


def text_of(v):
    v = v or ""
    return v["value"] if isinstance(v, dict) else v


def schema(*args):
    return json.loads(subprocess.run([BINARY, "schema"] + list(args), check=True, text=True,
                                     stdout=subprocess.PIPE, timeout=PATIENCE).stdout)


@pytest.fixture(scope="module")
def editor():
    e = Editor()
    yield e
    e.stop()


@pytest.fixture
def file(tmp_path):
    """A file with the line at its top that names its schema, as docs/editor.md has it."""
    def write(name, text, *args):
        its = "%s.schema.json" % (args[0] if args else "sinew")
        (tmp_path / its).write_text(json.dumps(schema(*args)))
        return tmp_path / name, "# yaml-language-server: $schema=%s\n%s" % (its, text)
    return write


def test_wrong_key_and_value(editor, file):
    path, text = file("sinew.yaml", "agnet: ws://127.0.0.1:1/t\n"
                                    "limits:\n  connectons: 5\n  connections: 0\n  idle: soon\n"
                                    "policies: {retry-count: many}\nlog: {level: loud}\n")
    found = editor.open(path, text)
    assert sorted({line for line, _ in found}) == [1, 3, 4, 5, 6, 7], found
    told = dict(found)
    assert "agnet" in told[1] and "not allowed" in told[1]
    assert "connectons" in told[3]
    assert '"debug"' in told[7]
    path, text = file("mesh.yaml", "servces: {}\nservices:\n  app: {endpoints: {client: ['here']}}\n", "mesh")
    assert sorted({line for line, _ in editor.open(path, text)}) == [1, 3]


def test_good_file(editor, file):
    path, text = file("sinew.yaml", "name: shop\nagent: {url: ws://127.0.0.1:1/t, ping: 30s}\n"
                                    "listen: {sidecar: ':3500'}\nhub: {store: {type: sqlite, path: n.db}}\n"
                                    "limits: {idle: '${IDLE:5s}'}\n")
    assert editor.open(path, text) == []
    with open(os.path.join(HERE, "../../examples/mesh.yaml"), encoding="utf-8") as f:
        path, text = file("mesh.yaml", f.read(), "mesh")
    assert editor.open(path, text) == []


def test_completion(editor, file):
    whole = schema()["properties"]
    path, text = file("sinew.yaml", "na\n")
    editor.open(path, text)
    keys = editor.keys(path, 1, 2)
    assert set(whole) <= set(keys), set(whole) - set(keys)
    assert all(whole[k]["description"] in keys[k] for k in whole)
    path, text = file("nested.yaml", "hub:\n  store:\n    \n  queue:\n    full: \n")
    editor.open(path, text)
    keys = editor.keys(path, 3, 4)
    store = whole["hub"]["properties"]["store"]["properties"]
    assert set(store) <= set(keys)
    assert store["path"]["description"] in keys["path"]
    assert {"drop-oldest", "block", "disconnect"} <= set(editor.keys(path, 5, 10))
    path, text = file("mesh.yaml", "se\n", "mesh")
    editor.open(path, text)
    keys = editor.keys(path, 1, 2)
    assert set(schema("mesh")["properties"]) <= set(keys)


def test_hover(editor, file):
    whole = schema()["properties"]
    path, text = file("sinew.yaml", "agent:\n  url: ws://127.0.0.1:1/t\n  prune-absent: true\n"
                                    "hub:\n  check:\n    restarts: true\npolicies:\n  retry-count: 2\n")
    assert editor.open(path, text) == []

    def plain(line, character):  # Markdown's escapes are the server's
        return " ".join(editor.hover(path, line, character).replace("\\", "").split()).replace("&nbsp;", " ")
    agent = whole["agent"]["anyOf"][1]["properties"]
    assert whole["agent"]["description"] in plain(1, 1)
    assert agent["prune-absent"]["description"] in plain(3, 4)
    assert whole["hub"]["properties"]["check"]["properties"]["restarts"]["description"] in plain(6, 6)
    assert schema()["$defs"]["policies"]["properties"]["retry-count"]["description"] in plain(8, 4)


@pytest.mark.parametrize("args", [[], ["mesh"]])
def test_every_key_is_described(args):
    def missing(node, path):
        for name, value in node.get("properties", {}).items():
            if not value.get("description"):
                yield "%s.%s" % (path, name)
            yield from missing(value, "%s.%s" % (path, name))
        for value in node.get("anyOf", []):
            yield from missing(value, path)
        for word in ("items", "additionalProperties"):
            if isinstance(node.get(word), dict):
                yield from missing(node[word], path + "[]")
        for name, value in node.get("$defs", {}).items():
            yield from missing(value, name)
    assert list(missing(schema(*args), "")) == []
