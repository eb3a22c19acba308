#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""grpc.testing.TestService by Python's grpcio: a peer that is not ours.

usage: peer.py serve ADDRESS [CERT KEY [CA]] [--age=MS]
                                               prints "port N"; commands on stdin; ends with stdin
       peer.py client ADDRESS [CA [CERT KEY]]  runs the case named by each line of stdin
README.md has the lines that peers speak.
"""
import concurrent.futures
import itertools
import queue
import subprocess
import sys
import tempfile
import threading

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTOS = "/usr/share/grpc-proto"
PATIENCE = 60
LIMIT = 4 << 20
TEST = "grpc.testing.TestService"
INITIAL, TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001F608\t\n"


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


# ---- messages ----

class Protos:
    """Message classes by name, methods by path, made from the .proto files."""

    def __init__(self):
        with tempfile.NamedTemporaryFile() as f:
            subprocess.run(["protoc", "-I" + PROTOS, "--include_imports", "-o" + f.name,
                            "grpc/testing/test.proto", "grpc/health/v1/health.proto",
                            "grpc/reflection/v1alpha/reflection.proto"], check=True)
            files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
        pool = descriptor_pool.DescriptorPool()
        for one in files.file:
            pool.Add(one)
        self.pool = pool
        make = getattr(message_factory, "GetMessageClass", None) or \
            message_factory.MessageFactory(pool).GetPrototype
        self.methods = {}
        for service in (TEST, "grpc.testing.UnimplementedService", "grpc.health.v1.Health",
                        "grpc.reflection.v1alpha.ServerReflection"):
            for m in pool.FindServiceByName(service).methods:
                proto = descriptor_pb2.MethodDescriptorProto()
                m.CopyToProto(proto)
                self.methods["/%s/%s" % (service, m.name)] = (
                    make(m.input_type), make(m.output_type),
                    proto.client_streaming, proto.server_streaming)

        def message(name):
            return make(pool.FindMessageTypeByName(name))
        self.Empty = message("grpc.testing.Empty")
        self.Request = message("grpc.testing.SimpleRequest")
        self.Response = message("grpc.testing.SimpleResponse")
        self.InRequest = message("grpc.testing.StreamingInputCallRequest")
        self.InResponse = message("grpc.testing.StreamingInputCallResponse")
        self.OutRequest = message("grpc.testing.StreamingOutputCallRequest")
        self.OutResponse = message("grpc.testing.StreamingOutputCallResponse")
        self.HealthRequest = message("grpc.health.v1.HealthCheckRequest")
        self.HealthResponse = message("grpc.health.v1.HealthCheckResponse")
        self.ReflectionRequest = message("grpc.reflection.v1alpha.ServerReflectionRequest")


P = Protos()
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


# ---- the server ----

class Service:
    def __init__(self):
        self.changed = threading.Condition()
        self.health = {"": SERVING, TEST: SERVING}

    def set_serving(self, name, status):
        with self.changed:
            self.health[name] = status
            self.changed.notify_all()

    # what every method of TestService does: echo metadata, tell when it was cancelled

    def begin(self, method, context):
        state = threading.Event()
        context.over = state

        def over():
            state.set()
            with self.changed:
                self.changed.notify_all()
            # There is no public way to ask.
            if context._state.client == "cancelled":
                say("cancelled", method)
        context.add_callback(over)
        trailing = []
        for key, value in context.invocation_metadata():
            if key == INITIAL:
                context.send_initial_metadata(((key, value),))
            elif key == TRAILING:
                trailing.append((key, value))
            elif key == "x-test-time-left":
                left = context.time_remaining()
                trailing.append((key, "none" if left is None or left > 1e6
                                 else str(int(left * 1000))))
        context.trailing = trailing
        return dict(context.invocation_metadata())

    def end(self, context, code=grpc.StatusCode.OK, text=""):
        context.set_trailing_metadata(tuple(context.trailing))
        context.set_code(code)
        context.set_details(text)

    @staticmethod
    def code(number):
        return next(c for c in grpc.StatusCode if c.value[0] == number)

    def EmptyCall(self, request, context):
        self.begin("EmptyCall", context)
        self.end(context)
        return P.Empty()

    def UnaryCall(self, request, context):
        if request.HasField("response_compressed") and request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        meta = self.begin("UnaryCall", context)
        if "x-test-hang" in meta:
            say("hangs")
            context.over.wait()
            return P.Response()
        if "x-test-details-bin" in meta:
            context.trailing.append(("grpc-status-details-bin", meta["x-test-details-bin"]))
            self.end(context, grpc.StatusCode.NOT_FOUND, "with details")
            return P.Response()
        self.end(context, self.code(request.response_status.code), request.response_status.message)
        response = P.Response()
        response.payload.body = bytes(request.response_size)
        return response

    def StreamingInputCall(self, requests, context):
        self.begin("StreamingInputCall", context)
        size = sum(len(r.payload.body) for r in requests)
        self.end(context)
        return P.InResponse(aggregated_payload_size=size)

    def answers(self, request, context):
        for p in request.response_parameters:
            if p.interval_us and context.over.wait(p.interval_us / 1e6):
                return
            if p.HasField("compressed") and not p.compressed.value:
                context.disable_next_message_compression()
            response = P.OutResponse()
            response.payload.body = bytes(p.size)
            yield response

    def StreamingOutputCall(self, request, context):
        if any(p.compressed.value for p in request.response_parameters):
            context.set_compression(grpc.Compression.Gzip)
        self.begin("StreamingOutputCall", context)
        yield from self.answers(request, context)
        self.end(context)

    def FullDuplexCall(self, requests, context):
        self.begin("FullDuplexCall", context)
        for request in requests:
            if request.HasField("response_status"):
                self.end(context, self.code(request.response_status.code),
                         request.response_status.message)
                return
            yield from self.answers(request, context)
        self.end(context)

    def HalfDuplexCall(self, requests, context):
        self.begin("HalfDuplexCall", context)
        for request in list(requests):
            yield from self.answers(request, context)
        self.end(context)

    # grpc.health.v1

    def Check(self, request, context):
        with self.changed:
            status = self.health.get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return P.HealthResponse(status=status)

    def Watch(self, request, context):
        over = threading.Event()

        def end():
            over.set()
            with self.changed:
                self.changed.notify_all()
        context.add_callback(end)
        told = None
        while not over.is_set():
            with self.changed:
                self.changed.wait_for(lambda: over.is_set() or
                                      self.health.get(request.service, SERVICE_UNKNOWN) != told)
                told = self.health.get(request.service, SERVICE_UNKNOWN)
            if not over.is_set():
                yield P.HealthResponse(status=told)

    def handler(self):
        """grpcio asks by path."""
        service, handlers = self, {}
        for path, (request, response, client, server) in P.methods.items():
            behaviour = getattr(service, path.split("/")[2], None)
            if behaviour is None or "Unimplemented" in path:
                continue
            make = {(False, False): grpc.unary_unary_rpc_method_handler,
                    (True, False): grpc.stream_unary_rpc_method_handler,
                    (False, True): grpc.unary_stream_rpc_method_handler,
                    (True, True): grpc.stream_stream_rpc_method_handler}[client, server]
            handlers[path] = make(behaviour, request_deserializer=request.FromString,
                                  response_serializer=response.SerializeToString)

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                return handlers.get(details.method)
        return Handler()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def serve(address, cert=None, key=None, ca=None, age=None):
    service = Service()
    options = [("grpc.max_receive_message_length", LIMIT),
               ("grpc.http2.min_ping_interval_without_data_ms", 10)]
    if age:
        options += [("grpc.max_connection_age_ms", int(age))]
    pool = concurrent.futures.ThreadPoolExecutor(300)

    def start(where):
        server = grpc.server(pool, options=options)
        server.add_generic_rpc_handlers((service.handler(),))
        if cert is None:
            port = server.add_insecure_port(where)
        else:
            port = server.add_secure_port(where, grpc.ssl_server_credentials(
                [(read(key), read(cert))], read(ca) if ca else None, ca is not None))
        if port == 0:
            sys.exit("cannot listen on " + where)
        server.start()
        say("port", port)
        return server, port
    server, port = start(address)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "restart":
            server.stop(PATIENCE)
            server, port = start("%s:%d" % (address.rpartition(":")[0], port))
        elif words[0] == "serving":
            service.set_serving(words[1], SERVING if words[2] == "1" else NOT_SERVING)
            say("done")
    server.stop(0).wait()


# ---- the client ----

class Failed(Exception):
    pass


def need(what, *about):
    if not what:
        raise Failed("%s" % (about,))


class Client:
    def __init__(self, address, ca=None, cert=None, key=None):
        options = [("grpc.initial_reconnect_backoff_ms", 50),
                   ("grpc.min_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
        self.address, self.options = address, options
        self.lines = queue.Queue()
        if ca is None:
            self.channel = grpc.insecure_channel(address, options)
        else:
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(
                read(ca), read(key) if key else None, read(cert) if cert else None), options)

    def method(self, name, service=TEST, channel=None):
        path = "/%s/%s" % (service, name)
        request, response, client, server = P.methods[path]
        channel = channel or self.channel
        make = {(False, False): channel.unary_unary, (True, False): channel.stream_unary,
                (False, True): channel.unary_stream, (True, True): channel.stream_stream}
        call = make[client, server](path, request_serializer=request.SerializeToString,
                                    response_deserializer=response.FromString)

        def run(*args, **kw):
            kw.setdefault("timeout", PATIENCE)
            return call(*args, **kw)
        run.future = lambda *a, **kw: call.future(*a, **dict({"timeout": PATIENCE}, **kw))
        run.with_call = lambda *a, **kw: call.with_call(*a, **dict({"timeout": PATIENCE}, **kw))
        return run

    @staticmethod
    def failure(call, *args, **kw):
        """The error of a call that has to fail; a stream is read to its end."""
        try:
            result = call(*args, **kw)
            if hasattr(result, "__next__"):
                list(result)
        except grpc.RpcError as e:
            return e.code(), e.details(), e
        raise Failed("it did not fail")

    @staticmethod
    def request(response=0, body=0, **kw):
        r = P.Request(response_size=response, **kw)
        r.payload.body = bytes(body)
        return r

    @staticmethod
    def out(sizes, body=None, interval_us=0):
        r = P.OutRequest()
        for size in sizes:
            r.response_parameters.add(size=size, interval_us=interval_us)
        if body is not None:
            r.payload.body = bytes(body)
        return r

    def large(self, response=314159, body=271828, request=None, **kw):
        r = self.method("UnaryCall")(request or self.request(response, body), **kw)
        need(r.payload.body == bytes(response), len(r.payload.body))

    # the cases of the gRPC project's description

    def empty_unary(self):
        r = self.method("EmptyCall")(P.Empty())
        need(r.SerializeToString() == b"")

    def large_unary(self):
        self.large()

    def client_compressed_unary(self):
        self.large(request=self.request(314159, 271828, expect_compressed={"value": True}),
                   compression=grpc.Compression.Gzip)
        self.large(request=self.request(314159, 271828, expect_compressed={"value": False}))

    def server_compressed_unary(self):
        for value in (True, False):
            self.large(request=self.request(314159, 271828, response_compressed={"value": value}))

    def upload(self, sizes, **kw):
        r = self.method("StreamingInputCall")(
            (P.InRequest(payload={"body": bytes(n)}) for n in sizes), **kw)
        need(r.aggregated_payload_size == sum(sizes), r.aggregated_payload_size)

    def client_compressed_streaming(self):
        self.upload([27182], compression=grpc.Compression.Gzip)
        self.upload([45904])

    def client_streaming(self):
        self.upload([27182, 8, 1828, 45904])

    def server_streaming(self):
        self.download([31415, 9, 2653, 58979])

    def download(self, sizes, compressed=None):
        request = self.out(sizes)
        for p, value in zip(request.response_parameters, compressed or []):
            p.compressed.value = value
        got = [len(r.payload.body) for r in self.method("StreamingOutputCall")(request)]
        need(got == sizes, got)

    def server_compressed_streaming(self):
        self.download([31415, 92653], [True, False])

    def duplex(self, **kw):
        """An open FullDuplexCall: (send, call); send(None) ends our side."""
        q = queue.Queue()
        return q.put, self.method("FullDuplexCall")(iter(q.get, None), **kw)

    def ping_pong(self):
        send, call = self.duplex()
        for size, body in ((31415, 27182), (9, 8), (2653, 1828), (58979, 45904)):
            send(self.out([size], body))
            need(next(call).payload.body == bytes(size))
        send(None)
        need(list(call) == [])

    def empty_stream(self):
        need(list(self.method("FullDuplexCall")(iter([]))) == [])

    def echoed(self, call, initial, trailing):
        need((INITIAL, initial) in [tuple(m) for m in call.initial_metadata()],
             call.initial_metadata())
        need((TRAILING, trailing) in [tuple(m) for m in call.trailing_metadata()],
             call.trailing_metadata())

    def metadata(self, initial, trailing):
        meta = ((INITIAL, initial), (TRAILING, trailing))
        r, call = self.method("UnaryCall").with_call(self.request(314159, 271828), metadata=meta)
        need(len(r.payload.body) == 314159)
        self.echoed(call, initial, trailing)
        call = self.method("FullDuplexCall")(iter([self.out([314159], 271828)]), metadata=meta)
        need([len(r.payload.body) for r in call] == [314159])
        self.echoed(call, initial, trailing)

    def custom_metadata(self):
        self.metadata("test_initial_metadata_value", b"\xab\xab\xab")

    def binary_metadata(self):
        for n in (0, 1, 2, 3, 4, 256):
            self.metadata("of %d" % n, bytes(i % 256 for i in range(n)))

    def large_metadata(self):
        self.metadata("m" * 7000, b"b" * 10)

    def status(self, text):
        request = P.Request(response_status={"code": 2, "message": text})
        code, details, _ = self.failure(self.method("UnaryCall"), request)
        need((code, details) == (grpc.StatusCode.UNKNOWN, text), code, details)
        request = P.OutRequest(response_status={"code": 2, "message": text})
        code, details, _ = self.failure(self.method("FullDuplexCall"), iter([request]))
        need((code, details) == (grpc.StatusCode.UNKNOWN, text), code, details)

    def status_code_and_message(self):
        self.status("test status message")

    def special_status_message(self):
        self.status(SPECIAL)

    def every_status(self):
        for c in grpc.StatusCode:
            if c is grpc.StatusCode.OK:
                continue
            request = P.Request(response_status={"code": c.value[0], "message": c.name})
            code, details, _ = self.failure(self.method("UnaryCall"), request)
            need((code, details) == (c, c.name), code, details)

    def unimplemented_method(self):
        code, _, _ = self.failure(self.method("UnimplementedCall"), P.Empty())
        need(code is grpc.StatusCode.UNIMPLEMENTED, code)

    def unimplemented_service(self):
        code, _, _ = self.failure(self.method("UnimplementedCall",
                                              "grpc.testing.UnimplementedService"), P.Empty())
        need(code is grpc.StatusCode.UNIMPLEMENTED, code)

    def cancel_after_begin(self):
        q = queue.Queue()
        call = self.method("StreamingInputCall").future(iter(q.get, None))
        call.cancel()
        need(call.code() is grpc.StatusCode.CANCELLED, call.code())
        q.put(None)

    def cancel_after_first_response(self):
        send, call = self.duplex()
        send(self.out([31415], 27182))
        need(len(next(call).payload.body) == 31415)
        call.cancel()
        need(call.code() is grpc.StatusCode.CANCELLED, call.code())
        send(None)

    def timeout_on_sleeping_server(self):
        send, call = self.duplex(timeout=0.001)
        send(self.out([], 27182))
        code, _, _ = self.failure(lambda: call)
        need(code is grpc.StatusCode.DEADLINE_EXCEEDED, code)
        send(None)

    # more

    def cancel_hanging(self):
        """A unary call that is not answered; "end" cancels it."""
        call = self.method("UnaryCall").future(self.request(), metadata=(("x-test-hang", "1"),))
        say("at hanging")
        need(self.lines.get() == "end")
        call.cancel()
        need(call.code() is grpc.StatusCode.CANCELLED, call.code())

    def half_duplex(self):
        requests = [self.out([10, 20]), self.out([]), self.out([30])]
        got = [len(r.payload.body) for r in self.method("HalfDuplexCall")(iter(requests))]
        need(got == [10, 20, 30], got)

    def deadline_exceeded(self):
        code, _, _ = self.failure(self.method("UnaryCall"), self.request(), timeout=0.3,
                                  metadata=(("x-test-hang", "1"),))
        need(code is grpc.StatusCode.DEADLINE_EXCEEDED, code)

    def deadline_passed_on(self):
        _, call = self.method("UnaryCall").with_call(self.request(), timeout=9,
                                                     metadata=(("x-test-time-left", "?"),))
        left = dict(call.trailing_metadata())["x-test-time-left"]
        need(4000 < int(left) <= 9100, left)

    def big_message(self):
        self.large(LIMIT - 64, LIMIT - 64)

    def request_too_large(self):
        code, _, _ = self.failure(self.method("UnaryCall"), self.request(1, LIMIT))
        need(code is grpc.StatusCode.RESOURCE_EXHAUSTED, code)
        self.empty_unary()

    def response_too_large(self):
        code, _, _ = self.failure(self.method("UnaryCall"), self.request(LIMIT, 1))
        need(code is grpc.StatusCode.RESOURCE_EXHAUSTED, code)
        self.empty_unary()

    def compressed_too_large(self):
        """Small on the wire, too large behind it, either way."""
        code, _, _ = self.failure(self.method("UnaryCall"), self.request(1, LIMIT),
                                  compression=grpc.Compression.Gzip)
        need(code is grpc.StatusCode.RESOURCE_EXHAUSTED, code)
        code, _, _ = self.failure(self.method("UnaryCall"),
                                  self.request(LIMIT, 1, response_compressed={"value": True}))
        need(code is grpc.StatusCode.RESOURCE_EXHAUSTED, code)
        self.empty_unary()

    def concurrent_unary(self):
        calls = [self.method("UnaryCall").future(self.request(1000 + i, i)) for i in range(500)]
        for i, call in enumerate(calls):
            need(len(call.result().payload.body) == 1000 + i, i)

    def concurrent_streams(self):
        streams = [self.duplex() for _ in range(60)]
        for turn in range(10):
            for i, (send, _) in enumerate(streams):
                send(self.out([100 * i + turn], 10 * i))
            for i, (_, call) in enumerate(streams):
                need(len(next(call).payload.body) == 100 * i + turn, i, turn)
        for send, call in streams:
            send(None)
            need(list(call) == [])

    def upload_much(self):
        self.upload([64 << 10] * 200)

    def slow_reader(self):
        call = self.method("StreamingOutputCall")(self.out([100000] * 100))
        need(len(next(call).payload.body) == 100000)
        self.empty_unary()
        need([len(r.payload.body) for r in call] == [100000] * 99)

    def error_details(self):
        # google.rpc.Status: code 5, message "with details", one Any
        status = b"\x08\x05\x12\x0cwith details\x1a\x0a\x0a\x03a/b\x12\x03\x08\x96\x01"
        code, text, e = self.failure(self.method("UnaryCall"), self.request(),
                                     metadata=(("x-test-details-bin", status),))
        need((code, text) == (grpc.StatusCode.NOT_FOUND, "with details"), code, text)
        need(dict(e.trailing_metadata())["grpc-status-details-bin"] == status)

    def health_check(self):
        check = self.method("Check", "grpc.health.v1.Health")
        for name in ("", TEST):
            need(check(P.HealthRequest(service=name)).status == SERVING, name)
        code, _, _ = self.failure(check, P.HealthRequest(service="nobody"))
        need(code is grpc.StatusCode.NOT_FOUND, code)

    def health_watch(self):
        call = self.method("Watch", "grpc.health.v1.Health")(P.HealthRequest(service=TEST))
        for status in (SERVING, NOT_SERVING, SERVING):
            need(next(call).status == status, status)
            say("at", "serving" if status == SERVING else "not-serving")
        call.cancel()

    def reflection(self):
        """Services by name, and the file of one by a symbol of it (v1alpha)."""
        requests = [P.ReflectionRequest(list_services=""),
                    P.ReflectionRequest(file_containing_symbol=TEST)]
        listed, file = self.method("ServerReflectionInfo",
                                   "grpc.reflection.v1alpha.ServerReflection")(iter(requests))
        names = [s.name for s in listed.list_services_response.service]
        need(TEST in names and "grpc.health.v1.Health" in names, names)
        files = [descriptor_pb2.FileDescriptorProto.FromString(f)
                 for f in file.file_descriptor_response.file_descriptor_proto]
        need([s.name for f in files for s in f.service if f.package == "grpc.testing"][0] ==
             "TestService", [f.name for f in files])

    def held_stream(self):
        """A stream that says nothing; "end" ends it."""
        send, call = self.duplex(timeout=60)
        send(self.out([1]))
        need(len(next(call).payload.body) == 1)
        say("at held")
        need(self.lines.get() == "end")
        send(self.out([2]))
        send(None)
        need([len(r.payload.body) for r in call] == [2])

    def pings(self):
        """As held_stream, and this side sends PINGs."""
        options = [("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 10000),
                   ("grpc.http2.max_pings_without_data", 0)]
        with grpc.insecure_channel(self.address, self.options + options) as channel:
            q = queue.Queue()
            call = self.method("FullDuplexCall", channel=channel)(iter(q.get, None), timeout=60)
            q.put(self.out([1]))
            need(len(next(call).payload.body) == 1)
            say("at held")
            need(self.lines.get() == "end")
            q.put(None)
            need(list(call) == [])

    def hold_until_broken(self):
        """The stream has to end with UNAVAILABLE."""
        send, call = self.duplex(timeout=60)
        send(self.out([1]))
        next(call)
        say("at held")
        code, text, _ = self.failure(lambda: call)
        need(code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL), code, text)
        send(None)

    def calls_all_the_time(self):
        """Eight calls at a time until "end", and ten more each; none may fail."""
        count = itertools.count()
        stop, failed = threading.Event(), []
        unary = self.method("UnaryCall")

        def chain():
            left = 10
            while left > 0:
                try:
                    unary(self.request(100, 100), wait_for_ready=True)
                except grpc.RpcError as e:
                    failed.append("%s: %s" % (e.code(), e.details()))
                    return
                if next(count) == 20:
                    say("at running")
                if stop.is_set():
                    left -= 1
        threads = [threading.Thread(target=chain) for _ in range(8)]
        for t in threads:
            t.start()
        need(self.lines.get() == "end")
        stop.set()
        for t in threads:
            t.join()
        need(not failed, failed)

    def forwarded(self):
        """The server asks another one; the time left reaches that."""
        _, call = self.method("UnaryCall").with_call(
            self.request(), timeout=9,
            metadata=(("x-test-forward", "1"), ("x-test-time-left", "?")))
        left = dict(call.trailing_metadata())["x-test-time-left"]
        need(4000 < int(left) <= 9100, left)

    def forwarded_cancel(self):
        """What the server asked of another one is cancelled with our call."""
        call = self.method("UnaryCall").future(
            self.request(), metadata=(("x-test-forward", "1"), ("x-test-hang", "1")))
        say("at hanging")
        need(self.lines.get() == "end")
        call.cancel()

    def unavailable(self):
        code, _, _ = self.failure(self.method("EmptyCall"), P.Empty(), timeout=10)
        need(code is grpc.StatusCode.UNAVAILABLE, code)


def client(address, *tls):
    c = Client(address, *tls)

    def pump():
        for line in sys.stdin:
            c.lines.put(line.strip())
        c.lines.put(None)
    threading.Thread(target=pump, daemon=True).start()
    for name in iter(c.lines.get, None):
        try:
            getattr(c, name)()
            say("ok", name)
        except (Failed, grpc.RpcError, AttributeError, StopIteration, KeyError) as e:
            say("FAILED", name, type(e).__name__, " ".join(str(e).split()))
    c.channel.close()


if __name__ == "__main__":
    named = dict(a[2:].split("=") for a in sys.argv[2:] if a.startswith("--"))
    {"serve": serve, "client": client}[sys.argv[1]](
        *(a for a in sys.argv[2:] if not a.startswith("--")), **named)
