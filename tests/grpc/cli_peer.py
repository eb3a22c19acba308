# SPDX-License-Identifier: Apache-2.0
"""A gRPC server that is not ours, by grpcio, for tests of `sinew grpc`: the service of cli.proto,
health, and server reflection written here (Debian has no grpcio-reflection). In this process."""
import concurrent.futures
import os
import subprocess
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HERE = os.path.dirname(os.path.abspath(__file__))
GRPC_PROTO = "/usr/share/grpc-proto"
OURS = ["cli.proto", "cli_parts.proto"]
THEIRS = ["grpc/health/v1/health.proto", "grpc/reflection/v1/reflection.proto",
          "grpc/reflection/v1alpha/reflection.proto"]


POOL = descriptor_pool.DescriptorPool()
FACTORY = message_factory.MessageFactory(POOL)


def generate(folder):
    """Make a descriptor set of everything and the messages of it; the set's path."""
    fileset = os.path.join(folder, "cli.desc")
    subprocess.run(["protoc", "-I" + HERE, "-I" + GRPC_PROTO, "--include_imports",
                    "--descriptor_set_out=" + fileset] + OURS + THEIRS, check=True)
    with open(fileset, "rb") as f:
        for file in descriptor_pb2.FileDescriptorSet.FromString(f.read()).file:
            POOL.Add(file)
    return fileset


def message(name):
    return FACTORY.GetPrototype(POOL.FindMessageTypeByName(name))


def file_of(data):
    return descriptor_pb2.FileDescriptorProto.FromString(data)


# ---- test.cli.Echo ----

def count(request, context):
    for i in range(request.value):
        yield message("test.cli.Number")(value=i)


def total(requests, context):
    return message("test.cli.Number")(value=sum(r.value for r in requests))


def talk(requests, context):
    for r in requests:
        yield r


def fail(request, context):
    context.set_trailing_metadata((("grpc-status-details-bin", request.SerializeToString()),)
                                  if request.details else ())
    code = next((c for c in grpc.StatusCode if c.value[0] == request.code), None)
    context.abort(code, request.message)


def fail_with(request, context):
    fail(message("test.cli.Failure").FromString(request.data), context)


def large(request, context):
    return message("test.cli.Bytes")(data=b"x" * request.value)


def metadata(request, context):
    context.send_initial_metadata((("x-initial", "first"),))
    context.set_trailing_metadata((("x-last-bin", b"\x00\xff"),))
    entries = message("test.cli.Entries")()
    for k, v in context.invocation_metadata():
        entries.entry.add(name=k, value=v if isinstance(v, bytes) else v.encode())
    return entries


def sleep(request, context):
    time.sleep(request.value / 1000)
    return request


def echo_handlers():
    def make(kind, fn, ask, answer):
        return kind(fn, message(ask).FromString, message(answer).SerializeToString)
    e, n = "test.cli.Everything", "test.cli.Number"
    uu, us = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    su, ss = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
    return grpc.method_handlers_generic_handler("test.cli.Echo", {
        "Unary": make(uu, lambda r, c: r, e, e),
        "Count": make(us, count, n, n),
        "Sum": make(su, total, n, n),
        "Talk": make(ss, talk, e, e),
        "Fail": make(uu, fail, "test.cli.Failure", n),
        "FailWith": make(uu, fail_with, "test.cli.Bytes", n),
        "Large": make(uu, large, n, "test.cli.Bytes"),
        "Metadata": make(uu, metadata, n, "test.cli.Entries"),
        "Sleep": make(uu, sleep, n, n),
    })


# ---- health ----

class Health:
    def __init__(self):
        self.states = {"": 1, "test.cli.Echo": 1, "test.cli.Down": 2}

    def check(self, request, context):
        if request.service not in self.states:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return message("grpc.health.v1.HealthCheckResponse")(status=self.states[request.service])

    def watch(self, request, context):
        last = None
        while context.is_active():
            state = self.states.get(request.service, 3)
            if state != last:
                yield message("grpc.health.v1.HealthCheckResponse")(status=state)
            last = state
            time.sleep(0.02)

    def handlers(self):
        ask = message("grpc.health.v1.HealthCheckRequest").FromString
        answer = message("grpc.health.v1.HealthCheckResponse").SerializeToString
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
            "Check": grpc.unary_unary_rpc_method_handler(self.check, ask, answer),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch, ask, answer)})


# ---- reflection ----

class Reflection:
    """@bare: a file comes without what it imports."""

    def __init__(self, version, services, bare):
        self.package = "grpc.reflection." + version
        self.services = services
        self.bare = bare
        self.asked = []

    def files(self, file):
        out = [file]
        for f in out:
            if not self.bare:
                out += [d for d in f.dependencies if d not in out]
        return [f.serialized_pb for f in out]

    def answer(self, q):
        r = message(self.package + ".ServerReflectionResponse")(valid_host=q.host,
                                                                 original_request=q)
        kind = q.WhichOneof("message_request")
        self.asked.append(kind)
        try:
            if kind == "list_services":
                for name in self.services:
                    r.list_services_response.service.add(name=name)
            elif kind == "file_by_filename":
                r.file_descriptor_response.file_descriptor_proto.extend(
                    self.files(POOL.FindFileByName(q.file_by_filename)))
            elif kind == "file_containing_symbol":
                r.file_descriptor_response.file_descriptor_proto.extend(
                    self.files(POOL.FindFileContainingSymbol(q.file_containing_symbol)))
            else:
                raise KeyError
        except KeyError:
            r.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
            r.error_response.error_message = "not found"
        return r

    def handlers(self):
        return grpc.method_handlers_generic_handler(self.package + ".ServerReflection", {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
                lambda requests, context: (self.answer(q) for q in requests),
                message(self.package + ".ServerReflectionRequest").FromString,
                message(self.package + ".ServerReflectionResponse").SerializeToString)})


class Server:
    """@reflection: versions that are served."""

    def __init__(self, reflection=("v1", "v1alpha"), bare=False, health=True, credentials=None,
                 address="127.0.0.1:0", compression=None):
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8),
                                  compression=compression, options=[
            ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])
        self.health = Health()
        self.reflection = [Reflection(v, ["test.cli.Echo", "grpc.health.v1.Health"], bare)
                           for v in reflection]
        handlers = [echo_handlers()] + [r.handlers() for r in self.reflection]
        handlers += [self.health.handlers()] if health else []
        self.server.add_generic_rpc_handlers(tuple(handlers))
        port = self.server.add_secure_port(address, credentials) if credentials \
            else self.server.add_insecure_port(address)
        self.address = address if address.startswith("unix:") else "127.0.0.1:%d" % port
        self.port = port
        self.server.start()

    def asked(self):
        return [kind for r in self.reflection for kind in r.asked]

    def stop(self):
        self.server.stop(0).wait()
