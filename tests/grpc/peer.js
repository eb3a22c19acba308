// SPDX-License-Identifier: Apache-2.0
'use strict';
/*
 * grpc.testing.TestService by grpc-js: a peer that is not ours.
 *
 * usage: peer.js serve ADDRESS [CERT KEY [CA]] [--age=MS]
 *                                                prints "port N"; commands on stdin; ends with stdin
 *        peer.js client ADDRESS [CA [CERT KEY]]  runs the case named by each line of stdin
 * README.md has the lines that peers speak.
 */
const fs = require('fs');
const readline = require('readline');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const LIMIT = 4 << 20;
const PATIENCE_MS = 20000;
const TEST = 'grpc.testing.TestService';
const INITIAL = 'x-grpc-test-echo-initial';
const TRAILING = 'x-grpc-test-echo-trailing-bin';
const SPECIAL = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
const status = grpc.status;

function say(...words) {
  process.stdout.write(words.join(' ') + '\n');
}

const root = grpc.loadPackageDefinition(loader.loadSync(
  ['grpc/testing/test.proto', 'grpc/health/v1/health.proto',
    'grpc/reflection/v1alpha/reflection.proto'],
  { includeDirs: ['/usr/share/grpc-proto'], keepCase: true, longs: Number, oneofs: true })).grpc;

// ---- the server ----

const health = new Map([['', 'SERVING'], [TEST, 'SERVING']]);
const watchers = new Set();

/* What every method does: echo metadata, tell when it was cancelled. Returns the trailing metadata. */
function begin(name, call) {
  const trailing = new grpc.Metadata();
  const initial = new grpc.Metadata();

  call.on('cancelled', () => say('cancelled', name));
  for (const value of call.metadata.get(INITIAL))
    initial.add(INITIAL, value);
  for (const value of call.metadata.get(TRAILING))
    trailing.add(TRAILING, value);
  if (call.metadata.get('x-test-time-left').length > 0) {
    const end = call.getDeadline();
    trailing.add('x-test-time-left',
      end === Infinity ? 'none' : String(Math.floor(end.valueOf() - Date.now())));
  }
  call.sendMetadata(initial);
  return trailing;
}

function failure(wanted, trailing) {
  return { code: wanted.code, details: wanted.message, metadata: trailing };
}

/* Write the responses that a request asks for, one after the other; resolves when all are out. */
async function answer(call, request) {
  for (const p of request.response_parameters || []) {
    if (p.interval_us > 0)
      await new Promise((done) => setTimeout(done, p.interval_us / 1000));
    if (!call.write({ payload: { body: Buffer.alloc(p.size || 0) } }))
      await new Promise((done) => { call.once('drain', done); call.once('cancelled', done); });
    if (call.cancelled)
      return;
  }
}

/* One request after the other. */
function duplex(name, collect) {
  return (call) => {
    const trailing = begin(name, call);
    let last = Promise.resolve();
    let over = false;

    call.on('data', (request) => {
      last = last.then(() => {
        if (over)
          return undefined;
        if (request.response_status && request.response_status.code) {
          over = true;
          call.emit('error', failure(request.response_status, trailing));
          return undefined;
        }
        return answer(call, request);
      });
    });
    call.on('end', () => last.then(() => { if (!over) call.end(trailing); }));
    call.on('error', () => {});
  };
}

const service = {
  EmptyCall(call, reply) {
    reply(null, {}, begin('EmptyCall', call));
  },
  UnaryCall(call, reply) {
    const trailing = begin('UnaryCall', call);
    const details = call.metadata.get('x-test-details-bin');
    const wanted = call.request.response_status;

    if (call.metadata.get('x-test-hang').length > 0) {
      say('hangs');
      return;
    }
    if (details.length > 0) {
      trailing.add('grpc-status-details-bin', details[0]);
      reply(failure({ code: status.NOT_FOUND, message: 'with details' }, trailing));
    } else if (wanted && wanted.code) {
      reply(failure(wanted, trailing));
    } else {
      reply(null, { payload: { body: Buffer.alloc(call.request.response_size || 0) } }, trailing);
    }
  },
  StreamingInputCall(call, reply) {
    const trailing = begin('StreamingInputCall', call);
    let size = 0;

    call.on('data', (r) => { size += r.payload && r.payload.body ? r.payload.body.length : 0; });
    call.on('end', () => reply(null, { aggregated_payload_size: size }, trailing));
    call.on('error', () => {});
  },
  StreamingOutputCall(call) {
    const trailing = begin('StreamingOutputCall', call);

    answer(call, call.request).then(() => call.end(trailing));
  },
  FullDuplexCall: duplex('FullDuplexCall'),
  HalfDuplexCall: duplex('HalfDuplexCall'),
};

const healthService = {
  Check(call, reply) {
    const known = health.get(call.request.service || '');

    if (known === undefined)
      reply({ code: status.NOT_FOUND, details: 'unknown service' });
    else
      reply(null, { status: known });
  },
  Watch(call) {
    const tell = () => {
      call.write({ status: health.get(call.request.service || '') || 'SERVICE_UNKNOWN' });
    };

    watchers.add(tell);
    call.on('cancelled', () => watchers.delete(tell));
    tell();
  },
};

async function serve(address, cert, key, ca) {
  const age = Number((process.argv.find((a) => a.startsWith('--age=')) || '=').split('=')[1]);
  const host = address.slice(0, address.lastIndexOf(':'));
  const credentials = cert === undefined ? grpc.ServerCredentials.createInsecure()
    : grpc.ServerCredentials.createSsl(ca ? fs.readFileSync(ca) : null,
      [{ private_key: fs.readFileSync(key), cert_chain: fs.readFileSync(cert) }], ca !== undefined);
  let server;
  let port;

  async function start(where) {
    server = new grpc.Server({
      'grpc.max_receive_message_length': LIMIT, ...(age && { 'grpc.max_connection_age_ms': age }),
    });
    server.addService(root.testing.TestService.service, service);
    server.addService(root.health.v1.Health.service, healthService);
    port = await new Promise((done, failed) => {
      server.bindAsync(where, credentials, (err, n) => (err ? failed(err) : done(n)));
    });
    say('port', port);
  }
  await start(address);
  readline.createInterface({ input: process.stdin }).on('line', async (line) => {
    const words = line.split(' ');

    if (words[0] === 'restart') {
      server.tryShutdown(() => {});
      await start(host + ':' + port);
    } else if (words[0] === 'serving') {
      health.set(words[1], words[2] === '1' ? 'SERVING' : 'NOT_SERVING');
      watchers.forEach((tell) => tell());
      say('done');
    }
  }).on('close', () => { server.forceShutdown(); process.exit(0); });
}

// ---- the client ----

function need(what, ...about) {
  if (!what)
    throw new Error(JSON.stringify(about));
}

let target; // [address, credentials]
let channelOptions;
const clients = {};

function make(constructor, more) {
  return new constructor(target[0], target[1], { ...channelOptions, ...more });
}

function stub(constructor, name, more) {
  clients[name] = clients[name] || make(constructor, more);
  return clients[name];
}

const test = () => stub(root.testing.TestService, 'test');
/* Compression is a channel's matter. */
const gzip = () => stub(root.testing.TestService, 'gzip',
  { 'grpc.default_compression_algorithm': 2, 'grpc.use_local_subchannel_pool': 1 });

function meta(entries) {
  const m = new grpc.Metadata();

  for (const [key, value] of Object.entries(entries || {}))
    m.add(key, value);
  return m;
}

function deadline(ms) {
  return { deadline: Date.now() + (ms === undefined ? PATIENCE_MS : ms) };
}

/* A unary call: {code, details, response, initial, trailing, call}, never thrown. */
function unary(client, method, request, { metadata, ms, begun } = {}) {
  return new Promise((done) => {
    const result = {};
    const call = client[method](request, metadata || meta(), deadline(ms), (err, response) => {
      result.response = response;
      result.ended = true;
      finish();
    });
    const finish = () => {
      if (result.ended && result.trailing !== undefined)
        done(result);
    };

    call.on('metadata', (m) => { result.initial = m; });
    call.on('status', (s) => {
      Object.assign(result, { code: s.code, details: s.details, trailing: s.metadata });
      finish();
    });
    if (begun)
      begun(call);
  });
}

/* Everything about a stream: {code, details, initial, trailing, sizes}; @next(index) is called after
 * each message. */
function ended(call, next) {
  return new Promise((done) => {
    const result = { sizes: [] };

    call.on('metadata', (m) => { result.initial = m; });
    call.on('data', (r) => {
      result.sizes.push(r.payload && r.payload.body ? r.payload.body.length : 0);
      if (next)
        next(result.sizes.length);
    });
    call.on('error', () => {});
    call.on('status', (s) => done(Object.assign(result,
      { code: s.code, details: s.details, trailing: s.metadata })));
  });
}

function request(response, body, more) {
  return { response_size: response, payload: { body: Buffer.alloc(body) }, ...more };
}

function out(sizes, body, more) {
  return {
    response_parameters: sizes.map((size) => ({ size })),
    payload: { body: Buffer.alloc(body || 0) }, ...more,
  };
}

function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}

async function large(client, response, body, more) {
  const r = await unary(client, 'UnaryCall', request(response, body, more));

  need(r.code === status.OK, r.code, r.details);
  need(r.response.payload.body.equals(Buffer.alloc(response)), r.response.payload.body.length);
}

function write(call, message) {
  return new Promise((done) => (call.write(message) ? done() : call.once('drain', done)));
}

function upload(client, sizes) {
  return new Promise((done, failed) => {
    const call = client.StreamingInputCall(meta(), deadline(), (err, r) => {
      if (err)
        failed(err);
      else
        done(r.aggregated_payload_size);
    });

    (async () => {
      for (const n of sizes)
        await write(call, { payload: { body: Buffer.alloc(n) } });
      call.end();
    })();
  });
}

async function download(sizes, compressed) {
  const params = sizes.map((size, i) => (compressed
    ? { size, compressed: { value: compressed[i] } } : { size }));
  const r = await ended(test().StreamingOutputCall({ response_parameters: params }, meta(),
    deadline()));

  need(r.code === status.OK && same(r.sizes, sizes), r);
}

async function metadata(initial, trailing) {
  const m = meta({ [INITIAL]: initial, [TRAILING]: trailing });
  const check = (r) => {
    need(r.code === status.OK, r.code, r.details);
    need(same(r.initial.get(INITIAL), [initial]), r.initial.get(INITIAL));
    need(r.trailing.get(TRAILING)[0].equals(trailing), r.trailing.get(TRAILING));
  };

  check(await unary(test(), 'UnaryCall', request(314159, 271828), { metadata: m }));
  const call = test().FullDuplexCall(m, deadline());
  call.write(out([314159], 271828));
  call.end();
  const r = await ended(call);
  check(r);
  need(same(r.sizes, [314159]), r.sizes);
}

async function statusOf(code, text) {
  const response_status = { code, message: text };
  let r = await unary(test(), 'UnaryCall', { response_status });

  need(r.code === code && r.details === text, r.code, r.details);
  const call = test().FullDuplexCall(meta(), deadline());
  call.write({ response_status });
  call.end();
  r = await ended(call);
  need(r.code === code && r.details === text, r.code, r.details);
}

let lines = []; // what stdin said
let reader = null; // who waits for it
function line() {
  return new Promise((done) => {
    if (lines.length > 0)
      done(lines.shift());
    else
      reader = done;
  });
}

/* A stream that says nothing until "end". */
async function held(client) {
  const call = client.FullDuplexCall(meta(), deadline(60000));
  const end = ended(call, (n) => { if (n === 1) say('at held'); });

  call.write(out([1]));
  need(await line() === 'end');
  call.write(out([2]));
  call.end();
  const r = await end;
  need(r.code === status.OK && same(r.sizes, [1, 2]), r);
}

/* A unary call that is not answered; "end" cancels it. */
async function hanging(entries) {
  let call;
  const end = unary(test(), 'UnaryCall', request(0, 0),
    { metadata: meta(entries), begun: (c) => { call = c; } });

  say('at hanging');
  need(await line() === 'end');
  call.cancel();
  need((await end).code === status.CANCELLED);
}

const cases = {
  async empty_unary() {
    const r = await unary(test(), 'EmptyCall', {});

    need(r.code === status.OK && same(r.response, {}), r);
  },
  large_unary: () => large(test(), 314159, 271828),
  async client_compressed_unary() {
    await large(gzip(), 314159, 271828, { expect_compressed: { value: true } });
    await large(test(), 314159, 271828, { expect_compressed: { value: false } });
  },
  async server_compressed_unary() {
    for (const value of [true, false])
      await large(test(), 314159, 271828, { response_compressed: { value } });
  },
  async client_compressed_streaming() {
    need(await upload(gzip(), [27182]) === 27182);
    need(await upload(test(), [45904]) === 45904);
  },
  async client_streaming() {
    need(await upload(test(), [27182, 8, 1828, 45904]) === 74922);
  },
  server_streaming: () => download([31415, 9, 2653, 58979]),
  server_compressed_streaming: () => download([31415, 92653], [true, false]),
  async ping_pong() {
    const turns = [[31415, 27182], [9, 8], [2653, 1828], [58979, 45904]];
    const call = test().FullDuplexCall(meta(), deadline());
    const send = (n) => {
      if (n < turns.length)
        call.write(out([turns[n][0]], turns[n][1]));
      else
        call.end();
    };
    const end = ended(call, send);

    send(0);
    const r = await end;
    need(r.code === status.OK && same(r.sizes, turns.map((t) => t[0])), r);
  },
  async empty_stream() {
    const call = test().FullDuplexCall(meta(), deadline());
    const end = ended(call);

    call.end();
    const r = await end;
    need(r.code === status.OK && same(r.sizes, []), r);
  },
  custom_metadata: () => metadata('test_initial_metadata_value', Buffer.from([0xab, 0xab, 0xab])),
  async binary_metadata() {
    for (const n of [0, 1, 2, 3, 4, 256])
      await metadata('of ' + n, Buffer.from(Array.from({ length: n }, (_, i) => i % 256)));
  },
  large_metadata: () => metadata('m'.repeat(7000), Buffer.alloc(10, 'b')),
  status_code_and_message: () => statusOf(2, 'test status message'),
  special_status_message: () => statusOf(2, SPECIAL),
  async every_status() {
    for (const [name, code] of Object.entries(status).filter(([, c]) => c > 0 && c <= 16)) {
      const r = await unary(test(), 'UnaryCall', { response_status: { code, message: name } });

      need(r.code === code && r.details === name, r.code, r.details);
    }
  },
  async unimplemented_method() {
    const r = await unary(test(), 'UnimplementedCall', {});

    need(r.code === status.UNIMPLEMENTED, r.code);
  },
  async unimplemented_service() {
    const r = await unary(stub(root.testing.UnimplementedService, 'unimplemented'),
      'UnimplementedCall', {});

    need(r.code === status.UNIMPLEMENTED, r.code);
  },
  async cancel_after_begin() {
    let code;
    await new Promise((done) => {
      const call = test().StreamingInputCall(meta(), deadline(), (err) => {
        code = err && err.code;
        done();
      });

      call.cancel();
    });
    need(code === status.CANCELLED, code);
  },
  async cancel_after_first_response() {
    const call = test().FullDuplexCall(meta(), deadline());
    const end = ended(call, () => call.cancel());

    call.write(out([31415], 27182));
    const r = await end;
    need(r.code === status.CANCELLED && same(r.sizes, [31415]), r);
  },
  async timeout_on_sleeping_server() {
    const call = test().FullDuplexCall(meta(), deadline(1));
    const end = ended(call);

    call.write(out([], 27182));
    const r = await end;
    need(r.code === status.DEADLINE_EXCEEDED, r);
  },
  async half_duplex() {
    const call = test().HalfDuplexCall(meta(), deadline());
    const end = ended(call);

    for (const sizes of [[10, 20], [], [30]])
      call.write(out(sizes));
    call.end();
    const r = await end;
    need(r.code === status.OK && same(r.sizes, [10, 20, 30]), r);
  },
  async deadline_exceeded() {
    const r = await unary(test(), 'UnaryCall', request(0, 0),
      { metadata: meta({ 'x-test-hang': '1' }), ms: 300 });

    need(r.code === status.DEADLINE_EXCEEDED, r.code, r.details);
  },
  async deadline_passed_on() {
    const r = await unary(test(), 'UnaryCall', request(0, 0),
      { metadata: meta({ 'x-test-time-left': '?' }), ms: 9000 });
    const left = Number(r.trailing.get('x-test-time-left')[0]);

    need(left > 4000 && left <= 9100, left);
  },
  big_message: () => large(test(), LIMIT - 64, LIMIT - 64),
  async request_too_large() {
    const r = await unary(test(), 'UnaryCall', request(1, LIMIT));

    need(r.code === status.RESOURCE_EXHAUSTED, r.code, r.details);
    await cases.empty_unary();
  },
  async response_too_large() {
    const r = await unary(test(), 'UnaryCall', request(LIMIT, 1));

    need(r.code === status.RESOURCE_EXHAUSTED, r.code, r.details);
    await cases.empty_unary();
  },
  async compressed_too_large() {
    let r = await unary(gzip(), 'UnaryCall', request(1, LIMIT));

    need(r.code === status.RESOURCE_EXHAUSTED, r.code, r.details);
    r = await unary(test(), 'UnaryCall',
      request(LIMIT, 1, { response_compressed: { value: true } }));
    need(r.code === status.RESOURCE_EXHAUSTED, r.code, r.details);
    await cases.empty_unary();
  },
  async concurrent_unary() {
    const calls = [];

    for (let i = 0; i < 500; i++)
      calls.push(large(test(), 1000 + i, i));
    await Promise.all(calls);
  },
  async concurrent_streams() {
    const one = async (i) => {
      const call = test().FullDuplexCall(meta(), deadline());
      const send = (turn) => (turn < 10 ? call.write(out([100 * i + turn], 10 * i)) : call.end());
      const end = ended(call, send);

      send(0);
      const r = await end;
      need(r.code === status.OK &&
        same(r.sizes, Array.from({ length: 10 }, (_, turn) => 100 * i + turn)), i, r);
    };

    await Promise.all(Array.from({ length: 60 }, (_, i) => one(i)));
  },
  async upload_much() {
    need(await upload(test(), Array(200).fill(64 << 10)) === 200 * (64 << 10));
  },
  async slow_reader() {
    const call = test().StreamingOutputCall(out(Array(100).fill(100000)), meta(), deadline());
    const first = new Promise((done) => {
      call.once('data', () => { call.pause(); done(); });
    });

    await first;
    await cases.empty_unary();
    const end = ended(call);
    call.resume();
    const r = await end;
    need(r.code === status.OK && same(r.sizes, Array(99).fill(100000)), r.code, r.sizes.length);
  },
  async error_details() {
    // google.rpc.Status: code 5, message "with details", one Any
    const bytes = Buffer.concat([Buffer.from('\x08\x05\x12\x0cwith details\x1a\x0a\x0a\x03a/b\x12\x03\x08'),
      Buffer.from([0x96, 0x01])]);
    const r = await unary(test(), 'UnaryCall', request(0, 0),
      { metadata: meta({ 'x-test-details-bin': bytes }) });

    need(r.code === status.NOT_FOUND && r.details === 'with details', r.code, r.details);
    need(r.trailing.get('grpc-status-details-bin')[0].equals(bytes));
  },
  async health_check() {
    const client = stub(root.health.v1.Health, 'health');

    for (const name of ['', TEST]) {
      const r = await unary(client, 'Check', { service: name });

      need(r.code === status.OK && (r.response.status === 1 || r.response.status === 'SERVING'), r);
    }
    const r = await unary(client, 'Check', { service: 'nobody' });
    need(r.code === status.NOT_FOUND, r.code);
  },
  async health_watch() {
    const call = stub(root.health.v1.Health, 'health').Watch({ service: TEST }, meta(),
      deadline(60000));
    const got = [];

    await new Promise((done) => {
      call.on('data', (r) => {
        const serving = r.status === 1 || r.status === 'SERVING';

        got.push(serving);
        say('at', serving ? 'serving' : 'not-serving');
        if (got.length === 3)
          call.cancel();
      });
      call.on('error', () => {});
      call.on('status', done);
    });
    need(same(got, [true, false, true]), got);
  },
  async reflection() {
    const client = stub(root.reflection.v1alpha.ServerReflection, 'reflection');
    const call = client.ServerReflectionInfo(meta(), deadline());
    const got = [];

    await new Promise((done) => {
      call.on('data', (r) => got.push(r));
      call.on('error', () => {});
      call.on('status', done);
      call.write({ list_services: '' });
      call.write({ file_containing_symbol: TEST });
      call.end();
    });
    const names = got[0].list_services_response.service.map((s) => s.name);
    need(names.includes(TEST) && names.includes('grpc.health.v1.Health'), names);
    need(got[1].file_descriptor_response.file_descriptor_proto.some((f) =>
      Buffer.from(f).includes('TestService')), got[1]);
  },
  held_stream: () => held(test()),
  pings: () => held(make(root.testing.TestService, {
    'grpc.keepalive_time_ms': 100, 'grpc.keepalive_timeout_ms': 10000,
    'grpc.use_local_subchannel_pool': 1,
  })),
  async hold_until_broken() {
    const call = test().FullDuplexCall(meta(), deadline(60000));
    const end = ended(call, () => say('at held'));

    call.write(out([1]));
    const r = await end;
    need(r.code === status.UNAVAILABLE || r.code === status.INTERNAL, r);
  },
  async calls_all_the_time() {
    const wait = meta();
    let stop = false;
    let count = 0;
    const failed = [];
    const chain = async () => {
      for (let left = 10; left > 0;) {
        const r = await unary(test(), 'UnaryCall', request(100, 100), { metadata: wait });

        if (r.code !== status.OK) {
          failed.push(r.code + ': ' + r.details);
          return;
        }
        if (++count === 20)
          say('at running');
        if (stop)
          left--;
      }
    };

    wait.setOptions({ waitForReady: true });
    const all = Promise.all(Array.from({ length: 8 }, chain));
    need(await line() === 'end');
    stop = true;
    await all;
    need(failed.length === 0, failed);
  },
  async forwarded() {
    const r = await unary(test(), 'UnaryCall', request(0, 0), {
      metadata: meta({ 'x-test-forward': '1', 'x-test-time-left': '?' }), ms: 9000,
    });
    const left = Number(r.trailing.get('x-test-time-left')[0]);

    need(left > 4000 && left <= 9100, r.code, r.details, left);
  },
  cancel_hanging: () => hanging({ 'x-test-hang': '1' }),
  forwarded_cancel: () => hanging({ 'x-test-forward': '1', 'x-test-hang': '1' }),
  async unavailable() {
    const r = await unary(test(), 'EmptyCall', {}, { ms: 10000 });

    need(r.code === status.UNAVAILABLE, r.code, r.details);
  },
};

async function client(address, ca, cert, key) {
  channelOptions = { 'grpc.initial_reconnect_backoff_ms': 50 };
  target = [address, ca === undefined ? grpc.credentials.createInsecure()
    : grpc.credentials.createSsl(fs.readFileSync(ca), key ? fs.readFileSync(key) : null,
      cert ? fs.readFileSync(cert) : null)];
  readline.createInterface({ input: process.stdin }).on('line', take).on('close', () => take(null));
  function take(text) {
    const one = reader;

    reader = null;
    if (one)
      one(text);
    else
      lines.push(text);
  }
  for (let name = await line(); name !== null; name = await line()) {
    try {
      await cases[name]();
      say('ok', name);
    } catch (e) {
      say('FAILED', name, String(e && e.message).replace(/\s+/g, ' '));
    }
  }
  process.exit(0);
}

(process.argv[2] === 'serve' ? serve : client)(
  ...process.argv.slice(3).filter((a) => !a.startsWith('--')));
