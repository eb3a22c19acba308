// SPDX-License-Identifier: Apache-2.0
// An API server that speaks HTTP/2, as real ones do: node kube_h2.js CERTIFICATE KEY. Prints its port.
// A line "ADDRESS" on its input moves every endpoint there; it answers with the number of connections
// and of watches.
'use strict';
const fs = require('fs');
const http2 = require('http2');
const readline = require('readline');

const server = http2.createSecureServer({
	cert: fs.readFileSync(process.argv[2]), key: fs.readFileSync(process.argv[3])});
const watches = new Set();
let version = 10, connections = 0, address = '10.0.0.1';

function slice(service) {
	return {metadata: {name: service + '-x', namespace: 'shop', resourceVersion: String(version)},
		addressType: 'IPv4', ports: [{name: 'http', port: 80}],
		endpoints: [{addresses: [address], conditions: {ready: true}}]};
}

server.on('session', () => connections++);
server.on('request', (request, response) => {
	const query = new URL('http://x' + request.url).searchParams;
	const service = query.get('labelSelector').split('=')[1];
	const watch = {service, response};

	response.writeHead(200, {'content-type': 'application/json'});
	if (query.get('watch') !== 'true') {
		response.end(JSON.stringify({metadata: {resourceVersion: String(version)},
			items: [slice(service)]}));
		return;
	}
	response.flushHeaders();
	watches.add(watch);
	response.on('close', () => watches.delete(watch));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
readline.createInterface({input: process.stdin}).on('line', line => {
	address = line;
	version++;
	for (const w of watches)
		w.response.write(JSON.stringify({type: 'MODIFIED', object: slice(w.service)}) + '\n');
	console.log(connections, watches.size);
}).on('close', () => process.exit());
