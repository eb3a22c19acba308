// SPDX-License-Identifier: Apache-2.0
// Nodes of a µHome mesh in Node.js, written from the protocol's description alone; nothing but `net`.
// A test drives a process of it by lines of JSON: operations on stdin; their results, and what happens, on stdout.
//
// usage: node peer.js ROLE KEY=VALUE...   ROLE: node, registry, broker
//   listen=HOST:PORT id=ID broker=HOST:PORT registry=HOST:PORT version=1|2
//   original=1  as 0.0.1: one read is one package, core nodes know no health check, the subscriber's
//               neighbours are lost, a node knows no publish
'use strict';
const net = require('net');
const crypto = require('crypto');
const readline = require('readline');

const MU = '\u00b5Home';
const BROKER_ID = MU + '/core/eventBroker';
const REGISTRY_ID = MU + '/core/serviceRegistry';
const MAX = 65535;

const say = o => process.stdout.write(JSON.stringify(o) + '\n');

/** A whole package: 2 bytes size, 2 bytes version, 1 byte status, payload. */
function encode(version, status, payload)
{
	const body = Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload), 'utf8');
	if (body.length > MAX)
		throw new RangeError('payload of ' + body.length + ' bytes');
	const head = Buffer.alloc(5);
	head.writeUInt16BE(body.length, 0);
	head.writeUInt16BE(version, 2);
	head.writeUInt8(status, 4);
	return Buffer.concat([head, body]);
}

function event(source, type, data, error)
{
	const e = {id: crypto.randomUUID(), timestamp: new Date().toISOString(), source, type};
	if (data !== undefined)
		e.data = data;
	if (error !== undefined)
		e.error = error;
	return e;
}

/** The first package in a buffer, as {version, status, body, used}; null if it is not all there. */
function decode(buffer)
{
	if (buffer.length < 5)
		return null;
	const size = buffer.readUInt16BE(0);
	if (buffer.length < 5 + size)
		return null;
	return {version: buffer.readUInt16BE(2), status: buffer.readInt8(4),
		body: buffer.subarray(5, 5 + size), used: 5 + size};
}

function addr(text)
{
	const at = text.lastIndexOf(':');
	return {host: text.slice(0, at), port: Number(text.slice(at + 1))};
}

/** One exchange: connect, one package, one reply, end. The parsed payload with `status`, or an error. */
function exchange(address, bytes, {timeout = 3000, original = false} = {})
{
	return new Promise((resolve, reject) => {
		const socket = net.connect(addr(address));
		let got = Buffer.alloc(0);
		const clock = setTimeout(() => done(new Error('Request timed out')), timeout);
		function done(error, reply)
		{
			clearTimeout(clock);
			if (error)
				socket.destroy();
			else
				socket.end();
			return error ? reject(error) : resolve(reply);
		}
		socket.on('connect', () => socket.write(bytes));
		socket.on('error', done);
		socket.on('close', () => done(new Error('connection closed without a reply')));
		socket.on('data', chunk => {
			got = original ? chunk : Buffer.concat([got, chunk]);
			const p = decode(got);
			if (!p) {
				if (original)
					done(new Error('reply in pieces'));
				return;
			}
			if (p.used !== got.length)
				return done(new Error((got.length - p.used) + ' bytes behind the reply'));
			try {
				const reply = {status: p.status, version: p.version, payload: JSON.parse(p.body.toString('utf8'))};
				done(null, reply);
			} catch (e) {
				done(e);
			}
		});
	});
}

class Peer {
	constructor(o)
	{
		this.o = o;
		this.id = o.id;
		this.version = Number(o.version || 2);
		this.original = o.original === '1';
		this.handlers = new Map();
		this.methods = new Map([[MU + '.healthcheck', () => ({healthy: true})]]);
		this.sockets = new Set();
		this.server = net.createServer({allowHalfOpen: true}, s => this.accept(s));
	}

	on(type, handler)
	{
		if (!this.handlers.has(type))
			this.handlers.set(type, []);
		this.handlers.get(type).push(handler);
	}

	listen()
	{
		return new Promise((resolve, reject) => {
			this.server.on('error', reject);
			this.server.listen(addr(this.o.listen), resolve);
		});
	}

	accept(socket)
	{
		let kept = Buffer.alloc(0), ended = false, busy = false, kind = null;
		this.sockets.add(socket);
		socket.on('error', () => socket.destroy());
		socket.on('close', () => this.sockets.delete(socket));
		const work = async () => {
			if (busy)
				return;
			busy = true;
			for (;;) {
				if (!kind && kept.length >= 3)
					kind = kept[2] === 0 ? 'package' : /^[ \t\r\n]*[{[]/.test(kept.toString('latin1')) ? 'rpc' : 'none';
				if (kind === 'none') {
					socket.destroy();
					break;
				}
				if (kind === 'rpc') {
					const text = kept.toString('utf8');
					let value;
					try {
						value = JSON.parse(text);
					} catch (e) {
						break; // not all there yet
					}
					kept = Buffer.alloc(0);
					const r = this.rpc(value);
					if (r)
						socket.write(JSON.stringify(r));
					continue;
				}
				const p = kind && decode(kept);
				if (!p)
					break;
				kept = kept.subarray(p.used);
				const reply = await this.answer(p);
				if (reply)
					socket.write(reply);
			}
			busy = false;
			if (ended)
				socket.end();
		};
		socket.on('data', chunk => {
			if (this.original) { // one read is one package, whatever it holds
				kept = Buffer.alloc(0);
				const p = decode(chunk) || {version: 0, status: 1, body: chunk.subarray(5), used: chunk.length};
				if (p.used !== chunk.length)
					say({did: 'glued', bytes: chunk.length});
				this.answer(p).then(r => r && socket.write(r));
				return;
			}
			kept = Buffer.concat([kept, chunk]);
			work();
		});
		socket.on('end', () => {
			ended = true;
			if (this.original)
				socket.end();
			else
				work();
		});
	}

	rpc(q)
	{
		if (q.jsonrpc !== '2.0' || typeof q.method !== 'string')
			return {jsonrpc: '2.0', id: q.id === undefined ? null : q.id, error: {code: -32600, message: 'Invalid Request'}};
		say({rpc: q});
		const m = this.methods.get(q.method);
		if (q.id === undefined)
			return null;
		if (!m)
			return {jsonrpc: '2.0', id: q.id, error: {code: -32601, message: 'Method not found'}};
		return {jsonrpc: '2.0', id: q.id, result: m(q.params)};
	}

	reply(status, data, error)
	{
		return encode(this.version, status, event(this.id, MU + (error === undefined ? '.response' : '.error'), data, error));
	}

	/** The reply package for a request; null when a handler keeps it. */
	async answer(p)
	{
		let payload;
		try {
			payload = JSON.parse(p.body.toString('utf8'));
		} catch (e) {
			return this.reply(2, undefined, e.message);
		}
		if (p.status !== 1)
			return this.reply(2, undefined, 'Error in Message');
		const list = payload && this.handlers.get(payload.type);
		if (!list)
			return this.reply(1, {message: 'No Handler for Event registered'});
		let first = null;
		for (const h of list) {
			let r;
			try {
				r = await h(payload);
			} catch (e) {
				r = {status: 2, error: e.message};
			}
			if (!first && r)
				first = r;
		}
		if (!first)
			return null;
		return this.reply(first.status === undefined ? 1 : first.status, first.data, first.error);
	}

	ask(address, type, data, o = {})
	{
		const p = event(o.source === undefined ? this.id : o.source, type, data);
		return exchange(address, encode(o.version || this.version, o.status === undefined ? 1 : o.status, p),
			{timeout: o.timeout || 3000, original: this.original});
	}
}

const failed = (message, reason, status = 2) => ({status, error: {message, reason}});

class Service extends Peer {
	async start()
	{
		await this.listen();
		this.on(MU + '.core.healthcheck', () => ({data: {message: 'Service is healthy'}}));
		return this.register();
	}

	async register()
	{
		const r = await this.ask(this.o.registry, MU + '.core.register', {nodeId: this.id, address: this.o.listen}, {version: 2});
		if (r.status !== 1)
			this.server.close();
		return r;
	}

	async subscribe(type, more)
	{
		const r = await this.ask(this.o.broker, MU + '.core.subscribe', {subscribe: type, ...more});
		if (r.status === 1)
			this.on(type, p => {
				say({got: p});
				return {data: {}};
			});
		return r;
	}
}

class Registry extends Peer {
	async start()
	{
		this.nodes = new Map();
		this.pending = new Set();
		this.on(MU + '.core.register', p => this.registered(p));
		this.on(MU + '.core.updateBroker', () => {
			this.push();
			return null;
		});
		if (!this.original) {
			this.on(MU + '.core.healthcheck', () => ({data: {message: 'Service is healthy'}}));
			this.on(MU + '.core.unregister', p => {
				if (!this.nodes.delete(p.source))
					return failed('Failed to unregister microservice', 'Node is not registered');
				setImmediate(() => this.push());
				return {data: {message: `Successfully unregistered microservice '${p.source}'`}};
			});
		}
		await this.listen();
	}

	async registered(p)
	{
		const no = (reason, status) => failed('Failed to register microservice', reason, status);
		const address = p.data && p.data.address;
		if (!p.source)
			return no('Request did not contain a NodeId (source)');
		if (!address)
			return no('Request did not contain an address');
		let health;
		try {
			health = await exchange(address, encode(2, 1, event(this.id, MU + '.core.healthcheck')),
				{timeout: this.original ? 3000 : 2000, original: this.original});
		} catch (e) {
			return no('Unhealthy service');
		}
		say({health: {address, payload: health.payload}});
		if (health.status !== 1)
			return no('Unhealthy service');
		if (this.nodes.has(p.source))
			return no('Node already exists');
		this.nodes.set(p.source, address);
		setImmediate(() => this.push());
		return {data: {message: `Successfully registered microservice '${p.source}'`, address}};
	}

	push()
	{
		const nodes = Array.from(this.nodes, ([nodeId, address]) => ({nodeId, address}));
		this.ask(this.o.broker, MU + '.core.nodes', {nodes}, {version: 2}).then(
			r => say({pushed: nodes, reply: r.payload}), e => say({pushed: nodes, failed: e.message}));
	}
}

class Broker extends Peer {
	async start()
	{
		this.nodes = new Map();
		this.on(MU + '.core.nodes', p => {
			const list = p.data && p.data.nodes;
			if (!Array.isArray(list))
				return failed('Failed to update active nodes', 'Request did not contain nodes');
			const old = this.nodes;
			this.nodes = new Map(list.map(n => [n.nodeId, {types: (old.get(n.nodeId) || {}).types || new Set(), ...n}]));
			say({nodes: list, from: p.source});
			return {data: {message: 'Succesfully updated active nodes'}};
		});
		this.on(MU + '.core.subscribe', p => this.subscription(p, 'subscribe', 'Failed to subscribe for microservice to event'));
		if (!this.original) {
			this.on(MU + '.core.healthcheck', () => ({data: {message: 'Service is healthy'}}));
			this.on(MU + '.core.unsubscribe', p => this.subscription(p, 'unsubscribe', 'Failed to subscribe for microservice to event'));
			this.on(MU + '.core.publish', p => this.published(p, t => n => n.types.has(t)));
			this.on(MU + '.core.broadcast', p => this.published(p, () => () => true));
		}
		await this.listen();
	}

	subscription(p, word, message)
	{
		if (!p.source)
			return failed(message, 'Request did not contain a NodeId (source)');
		const type = p.data && p.data[word];
		if (!type)
			return failed(message, 'Request did not contain a event to subscribe to');
		const n = this.nodes.get(p.source);
		if (!n)
			return failed(message, 'Node is not registered');
		n.types[word === 'subscribe' ? 'add' : 'delete'](type);
		if (this.original && word === 'subscribe') // the defect of 0.0.1
			for (const [id] of this.nodes)
				if (id !== p.source)
					this.nodes.delete(id);
		say({[word]: type, by: p.source});
		return {data: {message: word === 'subscribe' ? 'Successful subscribed to event' : 'Successful unsubscribed from event'}};
	}

	published(p, choose)
	{
		const no = reason => failed('Failed to publish event', reason);
		const type = p.data && p.data.event;
		if (!p.source)
			return no('Request did not contain a NodeId (source)');
		if (!type)
			return no('Request did not contain a event to publish');
		if (type.startsWith(MU + '.'))
			return no('Event type is reserved');
		if (!p.source.startsWith(MU + '/interface/') && !this.nodes.has(p.source))
			return no('Node is not registered');
		const to = Array.from(this.nodes.values()).filter(choose(type));
		setImmediate(() => this.deliver(type, p.data.data, to));
		return {data: {message: 'Successfully published event', subscribers: to.length}};
	}

	deliver(type, data, to)
	{
		return Promise.all(to.map(n => this.ask(n.address, type, data).then(
			r => ({id: n.nodeId, status: r.status, payload: r.payload}),
			e => ({id: n.nodeId, failed: e.message})))).then(results => {
			say({delivered: type, results});
			return results;
		});
	}

	broadcast(type, data, all)
	{
		return this.deliver(type, data, Array.from(this.nodes.values()).filter(n => all || n.types.has(type)));
	}
}

const role = process.argv[2];
const options = Object.fromEntries(process.argv.slice(3).map(a => [a.slice(0, a.indexOf('=')), a.slice(a.indexOf('=') + 1)]));
if (role !== 'node' && !options.id)
	options.id = role === 'broker' ? BROKER_ID : REGISTRY_ID;
const peer = new ({node: Service, registry: Registry, broker: Broker}[role])(options);

const operations = {
	ask: q => peer.ask(q.address, q.type, q.data, q),
	subscribe: q => peer.subscribe(q.type, q.more),
	register: () => peer.register(),
	unregister: () => peer.ask(options.registry, MU + '.core.unregister'),
	/** A handler: answers `reply` ({status, data, error}), or with `echo` what came. */
	handle: async q => peer.on(q.type, p => {
		say({got: p});
		if (q.throws)
			throw new Error(q.throws);
		return q.silent ? null : q.echo ? {data: {echo: p.data === undefined ? null : p.data}} : q.reply || {data: {}};
	}),
	method: async q => peer.methods.set(q.name, params => ({params, by: peer.id})),
	broadcast: q => peer.broadcast(q.type, q.data, q.all),
	stop: async () => {
		peer.server.close();
		peer.sockets.forEach(s => s.destroy());
	},
	listen: async () => peer.listen(),
};

Promise.resolve(peer.start()).then(r => say({started: r === undefined ? true : r}), e => say({started: false, failed: e.message}));
readline.createInterface({input: process.stdin}).on('line', line => {
	const q = JSON.parse(line);
	Promise.resolve().then(() => operations[q.op](q)).then(
		r => say({re: q.n, result: r === undefined ? null : r}), e => say({re: q.n, failed: e.message}));
}).on('close', () => process.exit(0));
