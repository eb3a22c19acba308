// SPDX-License-Identifier: Apache-2.0
// The official AWS SDK as a peer. Every line of input is one call, every line of output its answer:
//   {"service": "dynamodb" | "document" | "kinesis", "op": "PutItem", "params": {...}, "config": {...}}
//   {"ok": {...}} | {"error": NAME, "message": TEXT}
// Bytes are {"$bytes": BASE64}, sets of the document client {"$set": [...]}, big numbers {"$number": TEXT}.
const dynamodb = require("@aws-sdk/client-dynamodb");
const kinesis = require("@aws-sdk/client-kinesis");
const lib = require("@aws-sdk/lib-dynamodb");
const {NodeHttpHandler} = require("@smithy/node-http-handler");

const clients = {};
function client(service, config) {
	const key = JSON.stringify([service, config]);
	if (!clients[key]) {
		const all = {maxAttempts: 1, ...config};
		if (service === "document")
			clients[key] = lib.DynamoDBDocumentClient.from(new dynamodb.DynamoDBClient(all),
				{unmarshallOptions: {wrapNumbers: true}});
		else if (service === "dynamodb")
			clients[key] = new dynamodb.DynamoDBClient(all);
		else
			// Its default is HTTP/2, which kinesalite does not speak.
			clients[key] = new kinesis.KinesisClient({requestHandler: new NodeHttpHandler(), ...all});
	}
	return clients[key];
}

function revive(v) {
	if (v === null || typeof v !== "object") return v;
	if (Array.isArray(v)) return v.map(revive);
	if ("$bytes" in v) return Buffer.from(v.$bytes, "base64");
	if ("$set" in v) return new Set(v.$set.map(revive));
	if ("$number" in v) return lib.NumberValue.from(v.$number);
	return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, revive(x)]));
}
function flatten(v) {
	if (v === null || typeof v !== "object" || v instanceof Date) return v;
	if (v instanceof Uint8Array) return {$bytes: Buffer.from(v).toString("base64")};
	if (v instanceof Set) return {$set: [...v].map(flatten)};
	if (v.constructor && v.constructor.name === "NumberValue") return {$number: v.value};
	if (Array.isArray(v)) return v.map(flatten);
	return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, flatten(x)]));
}

async function call(line) {
	const {service, op, params, config} = JSON.parse(line);
	const from = {dynamodb, document: lib, kinesis}[service];
	try {
		const out = await client(service, config).send(new from[op + "Command"](revive(params || {})));
		delete out.$metadata;
		return {ok: flatten(out)};
	} catch (e) {
		return {error: e.name, message: e.message};
	}
}

require("readline").createInterface({input: process.stdin})
	.on("line", async line => console.log(JSON.stringify(await call(line))))
	.on("close", () => process.exit(0));
