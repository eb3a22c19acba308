// SPDX-License-Identifier: Apache-2.0
'use strict';
/* A grpc-js server with its reflection (npm's @grpc/reflection), for test_cli.py. Prints "port N";
 * ends with stdin. */
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const { ReflectionService } = require('@grpc/reflection');

const definition = loader.loadSync('grpc/testing/test.proto',
  { includeDirs: ['/usr/share/grpc-proto'], keepCase: true, longs: Number, oneofs: true });
const server = new grpc.Server();

server.addService(definition['grpc.testing.TestService'], {
  UnaryCall: (call, done) =>
    done(null, { payload: { body: Buffer.alloc(call.request.response_size) } }),
});
new ReflectionService(definition).addToServer(server);
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (err, port) => {
  if (err)
    throw err;
  process.stdout.write('port ' + port + '\n');
});
process.stdin.on('end', () => process.exit(0)).resume();
