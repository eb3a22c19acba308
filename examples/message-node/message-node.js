// SPDX-License-Identifier: Apache-2.0
'use strict';
/*
 * A small message node of reTHINK: runtimes connect by TCP, a JSON message a line. What is addressed to
 * the domain registry goes through Sinew's registry connector, either a child process that is spoken to
 * on stdin and stdout, or one that runs already and listens for WebSockets.
 *
 * usage: node message-node.js PORT child [COMMAND ARGUMENT...]   default: sinew bridge --stdin
 *        node --experimental-websocket message-node.js PORT ws://HOST:PORT   (the option: before Node 22)
 */
const net = require('net');
const readline = require('readline');
const { spawn } = require('child_process');

/* The connector: send(text); take(text) gets each line or frame that comes back. */
function childConnector(command, take, gone) {
	const child = spawn(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
	child.on('error', gone).on('exit', () => gone(new Error('the connector has ended')));
	child.stdin.on('error', () => {});
	readline.createInterface({ input: child.stdout }).on('line', take);
	return { send: (text) => child.stdin.write(text + '\n'), close: () => child.stdin.end() };
}

function socketConnector(url, take, gone) {
	const ws = new WebSocket(url);
	const waiting = [];
	ws.onopen = () => waiting.splice(0).forEach((text) => ws.send(text));
	ws.onmessage = (event) => take(event.data);
	ws.onclose = () => gone(new Error('the connector has closed'));
	return {
		send: (text) => (ws.readyState === 1 ? ws.send(text) : waiting.push(text)),
		close: () => ws.close(),
	};
}

/* Runtimes number their messages as they like: on the way through the connector each has our number. */
const asked = new Map(); // our id -> {runtime, id}
const subscribers = new Map(); // "<url>/registration" -> set of runtimes
let lastId = 0;

function put(runtime, message) {
	runtime.write(JSON.stringify(message) + '\n');
}

function fromConnector(text) {
	const message = JSON.parse(text);
	const to = asked.get(message.id);
	if (message.type === 'update') {
		for (const runtime of subscribers.get(message.to) || []) put(runtime, message);
	} else if (to !== undefined) {
		asked.delete(message.id);
		put(to.runtime, { ...message, id: to.id });
	}
}

function fromRuntime(runtime, connector, text) {
	let message;
	try {
		message = JSON.parse(text);
	} catch {
		return put(runtime, { type: 'response', body: { code: 400, description: 'Bad Request' } });
	}
	const reply = (body) =>
		put(runtime, { id: message.id, type: 'response', from: message.to, to: message.from, body });
	if (/^domain:\/\/registry\./.test(message.to)) {
		asked.set(++lastId, { runtime, id: message.id });
		connector.send(JSON.stringify({ ...message, id: lastId }));
	} else if (message.type === 'subscribe') {
		for (const url of (message.body && message.body.resources) || []) {
			if (!subscribers.has(url)) subscribers.set(url, new Set());
			subscribers.get(url).add(runtime);
		}
		reply({ code: 200 });
	} else {
		reply({ code: 404, description: 'Not Found' });
	}
}

const [port, where = 'child', ...command] = process.argv.slice(2);
if (!/^\d+$/.test(port)) {
	console.error('usage: node message-node.js PORT [child [COMMAND ARGUMENT...] | ws://HOST:PORT]');
	process.exit(2);
}
const gone = (why) => {
	console.error('message-node: ' + why.message);
	process.exit(1);
};
const connector = where === 'child'
	? childConnector(command.length > 0 ? command : ['sinew', 'bridge', '--stdin'], fromConnector, gone)
	: socketConnector(where, fromConnector, gone);

net.createServer((runtime) => {
	readline.createInterface({ input: runtime }).on('line', (text) => fromRuntime(runtime, connector, text));
	runtime.on('error', () => {});
	runtime.on('close', () => {
		for (const [id, to] of asked) if (to.runtime === runtime) asked.delete(id);
		for (const set of subscribers.values()) set.delete(runtime);
	});
}).listen(Number(port), '127.0.0.1', () => console.error('message-node: ready'));
