/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands and options: the only place where they are written down. */
#include "app/cli.h"

const struct sn_opt sn__global_opts[] = {
		{SN_OPT_CONFIG, 0, "config", "FILE",
				"sinew's file (default: $SINEW_CONFIG, then sinew.yaml)"},
		{SN_OPT_AGENT, 0, "agent", "URL",
				"the agent, ws://host:port/TASK (default: $BERLIOZ_AGENT_PATH)"},
		{SN_OPT_ADMIN, 0, "admin", "ADDR",
				"a running sinew's admin address (default: its Unix socket)"},
		{SN_OPT_TIMEOUT, 0, "timeout", "DURATION",
				"wait at most so long, e.g. 500ms, 10s (default: 10s)"},
		{SN_OPT_VERBOSE, 'v', "verbose", NULL, "say more on stderr; twice: debug lines"},
		{SN_OPT_LOG, 0, "log", "text|json", "form of the lines on stderr (default: text)"},
		{SN_OPT_HELP, 'h', "help", NULL, "this text"},
		{SN_OPT_VERSION, 0, "version", NULL, "the version"},
		{0, 0, NULL, NULL, NULL},
};

#define SECRETS_OPTION \
	{ \
		SN_OPT_SECRETS, 0, "show-secrets", NULL, \
				"print keys, tokens and passwords as they are" \
	}

static const struct sn_opt peers_opts[] = {
		{SN_OPT_WATCH, 0, "watch", NULL, "go on: one line a change, until interrupted"},
		SECRETS_OPTION,
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt peer_opts[] = {
		SECRETS_OPTION,
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt request_opts[] = {
		{SN_OPT_METHOD, 'X', "method", "METHOD", "default: GET, with -d POST"},
		{SN_OPT_HEADER, 'H', "header", "'NAME: VALUE'", "a header; may be given again"},
		{SN_OPT_DATA, 'd', "data", "BODY|@FILE|-",
				"the body; a JSON object or array is sent as application/json"},
		{SN_OPT_INCLUDE, 'i', "include", NULL,
				"print status line and headers before the body"},
		{SN_OPT_FAIL, 0, "fail", NULL, "status 400 and above exits 1"},
		{SN_OPT_RETRY, 0, "retry", "safe|all|none",
				"what may be sent again (default: as policies say)"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt resource_opts[] = {
		SECRETS_OPTION,
		{SN_OPT_RETRY, 0, "retry", "safe|all|none",
				"what may be tried again (default: as policies say)"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt queue_opts[] = {
		SECRETS_OPTION,
		{SN_OPT_RETRY, 0, "retry", "safe|all|none",
				"what may be tried again (default: as policies say)"},
		{SN_OPT_FROM, 0, "from", "trim-horizon|latest|TIME",
				"tail: where to begin; 10m: what came in the last ten minutes (default: latest)"},
		{SN_OPT_SHARD, 0, "shard", "ID", "tail: only this shard"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt drivers_opts[] = {
		{SN_OPT_JSON, 0, "json", NULL, "as one JSON array"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt agent_opts[] = {
		{SN_OPT_LISTEN, 0, "listen", "ADDR",
				"host:port, :port (loopback) or unix:PATH (default: 127.0.0.1:55555)"},
		{SN_OPT_MESH, 0, "mesh", "FILE", "the mesh file; re-read when it changes"},
		{SN_OPT_HUB, 0, "hub", "ADDR",
				"the registry of a \xc2\xb5Home mesh (sinew hub), whose nodes are peers, too"},
		{SN_OPT_TOKEN, 0, "token", "FILE",
				"holds the token that connectors and reports must have"},
		{SN_OPT_CERT, 0, "cert", "FILE", "TLS: own certificates"},
		{SN_OPT_KEY, 0, "key", "FILE", "TLS: own key"},
		{SN_OPT_CA, 0, "ca", "FILE", "TLS: connectors must show a certificate of these"},
		{SN_OPT_INSECURE, 0, "insecure", NULL, "listen off loopback without TLS and token"},
		{SN_OPT_HUB_TOKEN, 0, "hub-token", "FILE", "holds the token of the hub's mesh"},
		{SN_OPT_HUB_CA, 0, "hub-ca", "FILE",
				"TLS to the hub: who is believed; --cert and --key are shown"},
		{SN_OPT_ETCD, 0, "etcd", "URL",
				"share reports with other agents there, and take the nodes of its hubs; "
				"several members: URL,URL"},
		{SN_OPT_ETCD_PREFIX, 0, "etcd-prefix", "TEXT",
				"before every key (default: /sinew/, as hubs have it)"},
		{SN_OPT_ETCD_USER, 0, "etcd-user", "NAME", "etcd: who we are"},
		{SN_OPT_ETCD_PASSWORD, 0, "etcd-password", "FILE",
				"etcd: holds the user's password"},
		{SN_OPT_ETCD_CA, 0, "etcd-ca", "FILE", "etcd by https: who is believed"},
		{SN_OPT_ETCD_CERT, 0, "etcd-cert", "FILE", "etcd by https: our certificates"},
		{SN_OPT_ETCD_KEY, 0, "etcd-key", "FILE", "etcd by https: our key"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt hub_opts[] = {
		{SN_OPT_ONLY, 0, "only", "registry|broker", "run one of the two"},
		{SN_OPT_BROKER, 0, "broker", "ADDR",
				"the broker is there, IPV4:PORT; only the registry runs here"},
		{SN_OPT_INSECURE, 0, "insecure", NULL,
				"listen off loopback without TLS and token (as insecure: true)"},
		{0, 0, NULL, NULL, NULL},
};

#define MESH_OPTIONS \
	{SN_OPT_TOKEN, 0, "token", "FILE", "holds the token that all nodes of the mesh share"}, \
			{SN_OPT_CERT, 0, "cert", "FILE", "TLS: own certificates"}, \
			{SN_OPT_KEY, 0, "key", "FILE", "TLS: own key"}, \
	{ \
		SN_OPT_CA, 0, "ca", "FILE", \
				"TLS: who is believed; others must show a certificate, too" \
	}

static const struct sn_opt node_opts[] = {
		{SN_OPT_LISTEN, 0, "listen", "ADDR", "host:port or :port (loopback)"},
		{SN_OPT_ON, 0, "on", "TYPE=COMMAND",
				"subscribe to events of TYPE and run COMMAND for each; may be given again"},
		{SN_OPT_BROKER, 0, "broker", "ADDR", "the event broker (default: 127.0.0.1:5100)"},
		{SN_OPT_REGISTRY, 0, "registry", "ADDR",
				"the service registry (default: 127.0.0.1:5101)"},
		{SN_OPT_ADVERTISE, 0, "advertise", "ADDR",
				"the address that is registered (default: where it listens)"},
		MESH_OPTIONS,
		{SN_OPT_INSECURE, 0, "insecure", NULL,
				"listen off loopback without TLS, as nodes of the original do"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt publish_opts[] = {
		{SN_OPT_ALL, 0, "all", NULL, "to every node, subscribed or not"},
		{SN_OPT_BROKER, 0, "broker", "ADDR", "the event broker (default: 127.0.0.1:5100)"},
		MESH_OPTIONS,
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt repl_opts[] = {
		{SN_OPT_BROKER, 0, "broker", "ADDR", "the event broker (default: 127.0.0.1:5100)"},
		{SN_OPT_REGISTRY, 0, "registry", "ADDR",
				"the service registry (default: 127.0.0.1:5101)"},
		{SN_OPT_LISTEN, 0, "listen", "ADDR",
				"where the node of `on` listens (default: loopback, any port)"},
		{SN_OPT_ADVERTISE, 0, "advertise", "ADDR",
				"the address it registers (default: where it listens)"},
		MESH_OPTIONS,
		{SN_OPT_INSECURE, 0, "insecure", NULL,
				"listen off loopback without TLS, as nodes of the original do"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt why_opts[] = {
		{SN_OPT_STATE, 0, "state", "DIR",
				"the state directory (default: ~/.local/state/sinew)"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt registry_opts[] = {
		{SN_OPT_LISTEN, 0, "listen", "ADDR",
				"serve: host:port, :port (loopback) or unix:PATH (default: the file's "
				"registry.listen, then 127.0.0.1:4567)"},
		{SN_OPT_URL, 0, "url", "URL",
				"send: the registry (default: the file's bridge.url, "
				"$NODE_REGISTRY_URL, then http://127.0.0.1:4567)"},
		{SN_OPT_STATE, 0, "state", "DIR",
				"serve: where the SQLite store is kept (default: "
				"$XDG_STATE_HOME/sinew or ~/.local/state/sinew)"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt bridge_opts[] = {
		{SN_OPT_LISTEN, 0, "listen", "ADDR",
				"WebSockets: host:port, :port (loopback) or unix:PATH (default: the file's "
				"bridge.websocket.listen, then 127.0.0.1:4568)"},
		{SN_OPT_STDIN, 0, "stdin", NULL, "a message a line on stdin, answers on stdout"},
		{SN_OPT_URL, 0, "url", "URL",
				"the registry (default: the file's bridge.url, $NODE_REGISTRY_URL, then "
				"http://127.0.0.1:4567)"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt check_opts[] = {
		{SN_OPT_CONNECT, 0, "connect", NULL,
				"also connect to the agent and wait for its first message"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt breaker_opts[] = {
		{SN_OPT_PEER, 0, "peer", "IDENTITY", "only this peer of the target"},
		{SN_OPT_JSON, 0, "json", NULL, "the list as JSON"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt top_opts[] = {
		{SN_OPT_SORT, 0, "sort", "COLUMN",
				"rate (default), p50, p99, errors, retries, inflight, breaker or name"},
		{SN_OPT_ONCE, 0, "once", NULL, "one table over one second, then end"},
		{SN_OPT_JSON, 0, "json", NULL, "a JSON document a second instead of the table"},
		{0, 0, NULL, NULL, NULL},
};

static const struct sn_opt grpc_opts[] = {
		{SN_OPT_HEADER, 'H', "header", "'NAME: VALUE'",
				"metadata; of a NAME-bin in base64; may be given again"},
		{SN_OPT_PROTO, 0, "proto", "FILESET",
				"descriptors from a file instead of the server's reflection"},
		{SN_OPT_MAX_MESSAGE, 0, "max-message", "SIZE",
				"largest message of an answer (default: 4MiB)"},
		{SN_OPT_WATCH, 0, "watch", NULL, "health: go on, one line a change"},
		{SN_OPT_CA, 0, "ca", "FILE", "https: whom to trust (default: as the system does)"},
		{SN_OPT_CERT, 0, "cert", "FILE", "https: our certificate chain"},
		{SN_OPT_KEY, 0, "key", "FILE", "https: our private key"},
		{SN_OPT_INSECURE, 0, "insecure", NULL, "https: trust any certificate"},
		{0, 0, NULL, NULL, NULL},
};

#define KIND_TEXT \
	"KIND is service, cluster, database, queue or hyperty (NAME is the user then). NAME is a " \
	"service of the own sector, or SECTOR.NAME."
#define TARGET_TEXT \
	KIND_TEXT " Without ENDPOINT the endpoint `default` is meant; databases and queues have " \
		  "none.\n\n"
#define RESOURCE_TEXT(kind, name) \
	"`info` prints {\"" name "\", \"config\"} of the first entry; null, and exit status 3, " \
	"when there is none. `watch` prints the map of all entries and a line for each change, until " \
	"SIGINT or SIGTERM. Anything else is an operation of the " kind "'s service, with its " \
	"parameters as JSON ({} when they are left out); the " kind "'s own name is put in. The " \
	"answer goes to stdout as it came. When the service refuses, its error is told on stderr " \
	"and the exit status is 1; 5 when that is about credentials or rights. --timeout, when " \
	"given, also bounds the whole call.\n\nNAME is a " kind " of the own sector, or " \
	"SECTOR.NAME.\n\n"
#define WAIT_TEXT \
	"The command waits for the first message of the agent, at most --timeout; when none comes " \
	"it exits 1 and names the agent's URL.\n"

const struct sn_cmd sn__commands[] = {
		{"run", "[FILE]", 0, 1, "run what the file's sections ask for, until SIGTERM",
				"Connects to the agent and serves what `listen` names. The admin API is always "
				"there: on the address of listen.admin, else on a Unix socket whose path is "
				"printed. Tells a service manager when it is ready (Type=notify) and alive "
				"(WatchdogSec). The first SIGTERM or SIGINT ends it in order, a second one at "
				"once.\n",
				"sinew run sinew.yaml", NULL, sn__cmd_run},
		{"peers", "KIND NAME [ENDPOINT]", 2, 3, "print the peers of a target",
				"Prints a JSON object, identity to peer, as the agent sent it; null when the "
				"target is unknown. With --watch a line follows for each change, until SIGINT "
				"or SIGTERM.\n\nInstances that are unwell, as the checks of a `sinew agent` say, "
				"are told on stderr: since when, why, and whether they are served (which they "
				"are when all of the target are unwell).\n\n" TARGET_TEXT WAIT_TEXT,
				"sinew peers service app client\nsinew peers service app client --watch",
				peers_opts, sn__cmd_peers},
		{"peer", "KIND NAME [ENDPOINT]", 2, 3,
				"print one peer of a target, chosen at random",
				"Prints the peer as the agent sent it, without its identity (-v tells it on "
				"stderr). When there is none it prints null and exits 3.\n\n" TARGET_TEXT
						WAIT_TEXT,
				"sinew peer service app client", peer_opts, sn__cmd_peer},
		{"request", "KIND NAME ENDPOINT [URL]", 3, 4,
				"send an HTTP request to a peer of a target",
				"Chooses a peer and sends the request, with the retries, time-outs, breaker "
				"and balancing that the target's policies ask for. The answer's body goes to "
				"stdout, its status line to stderr. Any answer exits 0 unless --fail is given; "
				"when no answer came the attempts are told on stderr. URL is relative: it "
				"begins with / and names no host. --timeout, when given, also bounds the whole "
				"call.\n\n" KIND_TEXT "\n\n" WAIT_TEXT,
				"sinew request service app client /contact\n"
				"sinew request service app client /contact -X POST "
				"-d '{\"name\": \"Chuck Norris\", \"phone\": \"314-159-2653\"}'",
				request_opts, sn__cmd_request},
		{"database", "NAME info|watch|OPERATION [JSON|@FILE|-]", 2, 3,
				"look at a database, and call it",
				RESOURCE_TEXT("database", "tableName") WAIT_TEXT,
				"sinew database contacts info\n"
				"sinew database contacts Scan '{}'\n"
				"sinew database contacts PutItem '{\"Item\": {\"name\": {\"S\": \"Chuck\"}}}'",
				resource_opts, sn__cmd_database},
		{"queue", "NAME info|watch|tail|OPERATION [JSON|@FILE|-]", 2, 3,
				"look at a queue, follow it, and call it",
				RESOURCE_TEXT("queue",
						"streamName") "`tail` follows all shards of the stream, also through splits and merges, and "
							      "prints a line for each record: {\"shard\", \"sequence\", \"key\", "
							      "\"arrival\" (milliseconds since 1970), \"data\"}; data that is no text "
							      "stands as \"base64\" instead. What does not work for now is told with -v and "
							      "tried again. TIME is a duration (10m: what came in the last ten minutes), "
							      "a time like 2026-01-31T12:00:00Z, or `oldest`, another word for "
							      "trim-horizon.\n\n" WAIT_TEXT,
				"sinew queue jobs info\n"
				"sinew queue jobs tail --from 10m\n"
				"sinew queue jobs PutRecord '{\"Data\": \"aGk=\", \"PartitionKey\": \"k\"}'",
				queue_opts, sn__cmd_queue},
		{"grpc", "ADDR list|describe|call|health [NAME] [JSON|@FILE|-]", 2, 4,
				"look at a gRPC server, and call it",
				"ADDR is HOST:PORT, unix:/PATH or https://HOST:PORT. What the server serves is "
				"asked of its reflection service, or read from FILESET, which `protoc "
				"--include_imports --descriptor_set_out=FILESET` makes.\n\n"
				"list: the services; with NAME the methods of that service.\n"
				"\ndescribe: a service, method, message or enum as a .proto has it.\n"
				"\ncall: call NAME, which is SERVICE/METHOD. The request is JSON; for a method "
				"that takes a stream, any number of documents one after the other, which "
				"are sent as they come. Each message of the answer is a line of JSON; the "
				"status goes to stderr, with its details.\n"
				"\nhealth: what grpc.health.v1 says of the server, or of service NAME: a word, "
				"and exit status 0 only for SERVING.\n\n"
				"--timeout bounds everything and is sent as grpc-timeout; streams go on "
				"without an end unless it is given. Exits 4 also for DEADLINE_EXCEEDED, 5 for "
				"UNAUTHENTICATED, PERMISSION_DENIED and RESOURCE_EXHAUSTED, 1 for any other "
				"status that is not OK. -v shows the metadata of the answer.\n",
				"sinew grpc localhost:50051 list\n"
				"sinew grpc localhost:50051 call helloworld.Greeter/SayHello "
				"'{\"name\": \"you\"}'\n"
				"sinew grpc https://grpc.example.com:443 health --ca ca.pem",
				grpc_opts, sn__cmd_grpc},
		{"policies", "[KIND NAME [ENDPOINT]]", 0, 3,
				"print the policies in force for a target",
				"One line a policy: its name, its value, and the node of the policy tree it "
				"comes from (or `default`). Without a target: of the root. With --admin: those "
				"of that running sinew.\n\n" TARGET_TEXT WAIT_TEXT,
				"sinew policies service app client", NULL, sn__cmd_policies},
		{"agent", "", 0, 0, "serve peers to connectors over WebSocket",
				"The other end of a connector's socket: serves each task its metadata from the "
				"mesh file, pushes what changes when the file changes, and takes POST /report. "
				"GET /-/checks lists the instances that are unwell, GET /-/metrics is for "
				"Prometheus. "
				"The address is printed on stderr. Ends with SIGTERM or SIGINT.\n\n"
				"Off loopback it listens with TLS (--cert, --key) and either a token (--token) "
				"or connectors' certificates (--ca), or with --insecure. Connectors of ours "
				"take the token from `agent.token` of their file or from SINEW_AGENT_TOKEN; "
				"others send `Authorization: Bearer TOKEN`.\n\n"
				"Agents with the same --etcd and --etcd-prefix are one: what is reported at one "
				"reaches the connectors of all. docs/agent.md has all of it.\n",
				"sinew agent --listen 127.0.0.1:55555 --mesh mesh.yaml\n"
				"sinew agent --listen 0.0.0.0:55555 --mesh mesh.yaml --cert agent.pem --key "
				"agent.key --token token.txt",
				agent_opts, sn__cmd_agent},
		{"hub", "", 0, 0, "the service registry and event broker of a \xc2\xb5Home mesh",
				"Runs both, as the file's section `hub` says, and whatever else the file asks "
				"for, until SIGTERM or SIGINT. With nothing set the broker listens on "
				"127.0.0.1:5100 and the registry on 127.0.0.1:5101, and nodes are kept in "
				"memory. docs/nodes.md has more, docs/microhome.md the events, docs/config.md the keys.\n",
				"sinew hub\nsinew hub --only registry --broker 192.168.1.10:5100",
				hub_opts, sn__cmd_hub},
		{"registry", "serve|send [JSON|@FILE|-]", 1, 2,
				"serve the reTHINK domain registry, or send it one connector message",
				"serve: the domain registry, as the file's section `registry` says, until "
				"SIGTERM or SIGINT. With nothing set it listens on 127.0.0.1:4567 and keeps "
				"its entries in SQLite; where the file is silent the environment of the "
				"original server is read (STORAGE_TYPE, EXPIRES, ...). docs/registry.md has "
				"all of it.\n\n"
				"send: the message, JSON as message nodes send it (default: from stdin), goes "
				"through the registry connector; the response message is printed. Exits 1 when "
				"its code is 500 or more: no registry, or one that failed.\n",
				"sinew registry serve\n"
				"STORAGE_TYPE=RAM sinew registry serve --listen :4567\n"
				"sinew registry send --url http://127.0.0.1:4567 @message.json",
				registry_opts, sn__cmd_registry},
		{"bridge", "", 0, 0, "the reTHINK registry connector where messages come from",
				"Takes messages for the domain registry, asks it, and answers them: from "
				"WebSockets (one a text frame, answered on the same connection), NATS or the "
				"event bus of Vert.x, as the file's section `bridge` says, and runs whatever else the "
				"file asks for, until SIGTERM or SIGINT. Changes of status are told, too. With nothing set it "
				"listens on 127.0.0.1:4568 and asks http://127.0.0.1:4567.\n\n"
				"With --stdin nothing else is served: each line is a message, each line of "
				"stdout an answer (in the order in which they come) or a change of status; it "
				"ends when the input has ended and all is answered. docs/bridge.md has the "
				"messages.\n",
				"sinew bridge --url http://127.0.0.1:4567\n"
				"sinew bridge --stdin < messages > answers",
				bridge_opts, sn__cmd_bridge},
		{"node", "ID", 1, 1, "a node of the \xc2\xb5Home mesh whose handlers are programs",
				"Listens, registers, and for each event of TYPE runs COMMAND: without a "
				"shell (quotes and backslashes work as there), the event's data as JSON on "
				"its stdin, SINEW_EVENT_TYPE, SINEW_EVENT_SOURCE, SINEW_EVENT_ID and "
				"SINEW_NODE_ID in its environment. What it prints is the answer: JSON as it "
				"is, other text as a message. A status other than 0 is an error reply; one "
				"that takes longer than --timeout is killed. Ends with SIGTERM or SIGINT; a "
				"registry that refuses ends it too, with status 1. docs/microhome.md has the "
				"protocol.\n",
				"sinew node lamp --listen 127.0.0.1:5102 --on lamp.on='./switch on'",
				node_opts, sn__cmd_node},
		{"publish", "TYPE [JSON|@FILE|-]", 1, 2, "an event into the \xc2\xb5Home mesh",
				"Goes to the broker, which delivers it to all who have subscribed to TYPE; "
				"its answer is printed. Types that begin with \xc2\xb5Home. are the mesh's "
				"own. uHome. is read as \xc2\xb5Home.\n",
				"sinew publish door.bell '{\"door\": \"front\"}'\n"
				"sinew publish --all lights.out",
				publish_opts, sn__cmd_publish},
		{"repl", "", 0, 0, "a \xc2\xb5Home mesh by hand, or by a script",
				"Reads words, a line each, and prints what is answered: `help` lists them. At "
				"a terminal with line editing, history and completion of words, node ids and "
				"event types. Events that `on` has asked for are printed as they come, a line "
				"of JSON each. Lines from a pipe are a script: # begins a comment, `wait` waits "
				"for an event, and the exit status is 1 if a word failed.\n",
				"sinew repl\n"
				"printf '%s\\n' 'on local.test' 'emit local.test {\"n\": 1}' wait | sinew repl",
				repl_opts, sn__cmd_repl},
		{"check", "FILE", 1, 1, "validate a file and say every problem with its place",
				"FILE is sinew's own file or a mesh file. Every problem is a line "
				"FILE:LINE:COLUMN: what was expected, with the nearest known name. Exits 2 "
				"when there is one.\n",
				"sinew check sinew.yaml", check_opts, sn__cmd_check},
		{"why", "[CALL-ID]", 0, 1, "tell the story of a call",
				"Prints the attempts of a call as a time line: when each began, how long it "
				"took (`#`), what was waited between them (`.`), the peer, the phase it "
				"ended in, the status and what was decided next. Asks the running sinew "
				"(--admin), then the flight recorder's files in the state directory, which "
				"hold the calls of all programs, also of those that have ended or crashed. "
				"Without an id: the newest story. Every failed, retried, refused or slow call "
				"is kept, of the others a sample.\n\n"
				"With --state only the files are read, with --admin only that sinew is asked. "
				"Exits 1 when the call is not known.\n",
				"sinew why 5f3a9c0011d2e4b7\nsinew why", why_opts, sn__cmd_why},
		{"breaker", "[open|close|auto KIND NAME [ENDPOINT [PEER]]]", 0, 5,
				"show circuit breakers, or force them",
				"Without arguments: a line for each peer that was ever called. `open` keeps "
				"calls away from the target (or from one peer), `close` lets all through, "
				"`auto` gives the decision back. The target may also be one argument, "
				"KIND/NAME/ENDPOINT. Of a running sinew: --admin.\n\n"
				"Exits 3 when there is no such target or peer, 5 when the token is missing or "
				"wrong.\n",
				"sinew breaker\nsinew breaker open service basket rest blue\n"
				"sinew breaker auto service/basket/rest",
				breaker_opts, sn__cmd_breaker},
		{"top", "", 0, 0, "a live table of a running sinew's targets",
				"Every second: calls, latency, errors, retries, what is under way, breakers. "
				"Numbers are of the second before; errors are a share of the calls, quantiles "
				"are `-` where nothing ended. On a terminal the keys named below the table "
				"sort it, q ends. Of a running sinew: --admin.\n",
				"sinew top --sort p99\nsinew top --once --json | jq .targets",
				top_opts, sn__cmd_top},
		{"version", "", 0, 0, "print the version", "Prints sinew and its version.\n",
				"sinew version", NULL, sn__cmd_version},
		{"drivers", "[TOPIC [TYPE]]", 0, 2,
				"list the drivers there are, and what they take",
				"A line for each driver: topic, type, what it is for. With TOPIC and TYPE: its "
				"operations and its options. Modules (sinew-TOPIC-TYPE.so) are looked for in "
				"the directories of $SINEW_MODULE_PATH and in the one fixed at build time; one "
				"that is refused is told on stderr.\n",
				"sinew drivers\nsinew drivers database dynamodb\nsinew drivers --json",
				drivers_opts, sn__cmd_drivers},
		{"schema", "[mesh]", 0, 1, "print the JSON Schema of the file",
				"For editors and other tools: JSON Schema (draft 2020-12) of sinew's file, made "
				"from the tables that the file is read with; with `mesh`, that of the mesh file "
				"of `sinew agent`. `sinew check` knows more: it names places, near keys and "
				"what contradicts.\n",
				"sinew schema > sinew.schema.json\nsinew schema mesh > mesh.schema.json",
				NULL, sn__cmd_schema},
		{"generate", "man|completion [COMMAND|bash|zsh]", 1, 2,
				"print a man page or shell completion",
				"The pages that `make install` installs come from here.\n",
				"sinew generate man request | man -l -\n"
				"sinew generate completion > /etc/bash_completion.d/sinew\n"
				"sinew generate completion zsh > /usr/local/share/zsh/site-functions/_sinew",
				NULL, sn__cmd_generate},
		{NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL},
};

const char *const sn__commands_planned[] = {
		"test",
		"streams",
		"dead-letters",
		"data",
		"meta",
		"connector",
		"new",
		"platform",
		NULL,
};
