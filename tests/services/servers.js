// SPDX-License-Identifier: Apache-2.0
// node servers.js dynalite|kinesalite [PORT]: serve on loopback, say "port N", end with our input.
const kind = process.argv[2];
const quick = kind === "dynalite" ?
	{createTableMs: 0, deleteTableMs: 0, updateTableMs: 0} :
	{createStreamMs: 0, deleteStreamMs: 0, updateStreamMs: 0, shardLimit: 100};
const server = require(kind)(quick);
server.on("error", e => { console.error(String(e)); process.exit(1); });
server.listen(Number(process.argv[3] || 0), "127.0.0.1",
	() => console.log("port " + server.address().port));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
