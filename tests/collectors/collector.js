// SPDX-License-Identifier: Apache-2.0
'use strict';
/*
 * A collector whose idea of a span is not ours. It takes each span apart with the classes of a package
 * of npm, puts it together again with that package's encoder, and compares: a field with another name,
 * type or place is lost or changed on the way.
 *
 *   zipkin  Span, Endpoint and JSON_V2 of openzipkin's `zipkin`
 *   otlp    ExportTraceServiceRequest of `@opentelemetry/otlp-transformer`, generated from
 *           opentelemetry-proto
 *
 * usage: node collector.js zipkin|otlp PORT; says {"port": N}, then a line for each request:
 * {"path", "type", "wrong": [sentence], "spans": [...]}.
 */
const assert = require('assert');
const http = require('http');

function zipkin() {
	const {TraceId, model, option, jsonEncoder} = require('zipkin');
	const HEX = /^[0-9a-f]{16}$/;

	function endpoint(e) {
		return e && new model.Endpoint(e);
	}

	function again(s) {
		const span = new model.Span(new TraceId({
			traceId: s.traceId,
			parentId: s.parentId ? new option.Some(s.parentId) : option.None,
			spanId: s.id,
			sampled: new option.Some(true),
			debug: s.debug === true,
			shared: s.shared === true,
		}));

		span.setName(s.name);
		span.setKind(s.kind);
		span.setTimestamp(s.timestamp);
		span.setDuration(s.duration);
		span.setLocalEndpoint(endpoint(s.localEndpoint));
		span.setRemoteEndpoint(endpoint(s.remoteEndpoint));
		for (const a of s.annotations || [])
			span.addAnnotation(a.timestamp, a.value);
		for (const [key, value] of Object.entries(s.tags || {}))
			span.putTag(key, value);
		return JSON.parse(jsonEncoder.JSON_V2.encode(span));
	}

	return (text) => {
		const spans = JSON.parse(text);

		assert(Array.isArray(spans) && spans.length > 0, 'a batch is a list');
		for (const s of spans) {
			assert.deepStrictEqual(s, again(s));
			assert(/^([0-9a-f]{16}){1,2}$/.test(s.traceId) && HEX.test(s.id), 'ids');
			assert(Number.isSafeInteger(s.timestamp) && s.timestamp > 1e15, 'microseconds');
			assert(Number.isSafeInteger(s.duration) && s.duration >= 1, 'a duration');
			assert(['CLIENT', 'SERVER', 'PRODUCER', 'CONSUMER'].includes(s.kind), 'a kind');
		}
		return spans;
	};
}

function otlp() {
	const {opentelemetry} = require('@opentelemetry/otlp-transformer/build/src/generated/root.js');
	const Request = opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest;

	function spansOf(doc) {
		return doc.resourceSpans.flatMap((r) => r.scopeSpans.flatMap((s) => s.spans));
	}

	/* OTLP/HTTP writes ids in hexadecimal, where the JSON of protobuf has base64. */
	function ids(doc, convert) {
		const copy = structuredClone(doc);

		for (const s of spansOf(copy))
			for (const name of ['traceId', 'spanId', 'parentSpanId'])
				if (s[name] !== undefined)
					s[name] = convert(s[name]);
		return copy;
	}

	return (text) => {
		const doc = JSON.parse(text);
		const plain = ids(doc, (hex) => {
			assert(/^([0-9a-f]{16}){1,2}$/.test(hex) && !/^0+$/.test(hex), 'an id: ' + hex);
			return Buffer.from(hex, 'hex');
		});
		const message = Request.fromObject(plain);
		const wire = Request.encode(message).finish();

		assert.strictEqual(Request.verify(message), null);
		const back = Request.toObject(Request.decode(wire), {
			longs: (n) => n, enums: Number, bytes: Buffer});
		/* fixed64 and int64 are texts in JSON */
		const told = JSON.parse(JSON.stringify(
			ids(back, (bytes) => Buffer.from(bytes).toString('hex')),
			(_, v) => (v && typeof v === 'object' && 'low' in v && 'high' in v)
				? (BigInt(v.high >>> 0) << 32n | BigInt(v.low >>> 0)).toString() : v));
		assert.deepStrictEqual(doc, told);
		for (const s of spansOf(doc)) {
			assert.strictEqual(s.traceId.length, 32);
			assert.strictEqual(s.spanId.length, 16);
			assert(BigInt(s.startTimeUnixNano) <= BigInt(s.endTimeUnixNano), 'times');
		}
		return spansOf(doc).map((s) => ({...s, resource: doc.resourceSpans[0].resource}));
	};
}

function say(what) {
	process.stdout.write(JSON.stringify(what) + '\n');
}

const read = {zipkin, otlp}[process.argv[2]]();
const server = http.createServer((req, res) => {
	const pieces = [];

	req.on('data', (piece) => pieces.push(piece));
	req.on('end', () => {
		const told = {path: req.url, type: req.headers['content-type'], wrong: [], spans: []};

		try {
			told.spans = read(Buffer.concat(pieces).toString());
		} catch (e) {
			told.wrong.push(String(e.message));
		}
		res.on('finish', () => say(told)); // whoever hears of it may kill us
		if (process.argv[2] === 'otlp')
			res.writeHead(200, {'Content-Type': 'application/json'}).end('{"partialSuccess":{}}');
		else
			res.writeHead(202).end();
	});
});
server.listen(Number(process.argv[3]), '127.0.0.1', () => say({port: server.address().port}));
