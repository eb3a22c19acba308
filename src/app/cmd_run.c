/* SPDX-License-Identifier: Apache-2.0 */
/* sinew run */
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/admin_client.h"
#include "app/lines.h"
#include "app/run.h"
#include "app/session.h"
#include "base/mem.h"
#include "base/time.h"
#include "dialect/open.h"
#include "mesh/config.h"

#define FLUSH_MS 1000 /* for the last lines of the access log */

/* ---- what the service manager wants to know (sd_notify(3)) ---- */

static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = path != NULL ? strlen(path) : 0;
	int fd;

	if (n == 0 || n >= sizeof(un.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(un.sun_path, path, n);
	if (path[0] == '@') /* an abstract address */
		un.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&un,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	(void)close(fd);
}

/* Half of the watchdog's time in milliseconds; -1: there is none for us. */
static int watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t us, n;

	if (usec == NULL || sn__parse_u64(sn_str_from(usec), UINT64_MAX, &us) < 0 || us == 0)
		return -1;
	if (pid != NULL &&
			(sn__parse_u64(sn_str_from(pid), UINT64_MAX, &n) < 0 ||
					n != (uint64_t)getpid()))
		return -1;
	return (int)SN_MAX(SN_MIN(us / 2000, (uint64_t)3600000), (uint64_t)1);
}

/* The loop's thread says that it lives; the main thread passes that on when it was said. */
static atomic_bool loop_alive = true;

static void say_alive(struct sn_runtime *rt, void *arg)
{
	atomic_store(&loop_alive, true);
}

static void feed_watchdog(struct sn_runtime *rt)
{
	if (!atomic_exchange(&loop_alive, false))
		return; /* it has not turned since we asked */
	notify("WATCHDOG=1");
	if (sn_post(rt, say_alive, NULL) < 0)
		atomic_store(&loop_alive, true); /* it is closing */
}

/* ---- running ---- */

#define SPARE_BYTES (4 << 20)
#define MAP_FROM_BYTES (1 << 20)
#define LOOK_MS 3000 /* how often memory is looked at */
#define QUIET_US 30000

/* Bodies come and go in blocks of 64 KiB. By default glibc gives memory back to the kernel, page by
 * page to be zeroed again, as soon as two of them are free. */
static void keep_spare_memory(void)
{
#ifdef M_TRIM_THRESHOLD
	(void)mallopt(M_TRIM_THRESHOLD, SPARE_BYTES);
	(void)mallopt(M_MMAP_THRESHOLD, MAP_FROM_BYTES);
#endif
}

/* Once after each busy time. Not while it lasts: what is given back would be fetched again. */
static void give_spare_memory_back(void)
{
	static uint64_t last_us;
	static bool was_busy;
	struct rusage ru;
	uint64_t now_us;

	if (getrusage(RUSAGE_SELF, &ru) < 0)
		return;
	now_us = (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 +
			(uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
	if (now_us - last_us > QUIET_US) {
		was_busy = true;
	} else if (was_busy) {
		was_busy = false;
#ifdef __GLIBC__
		(void)malloc_trim(SPARE_BYTES / 2);
#endif
	}
	last_us = now_us;
}

static void harden(const struct sn_config *config)
{
	static const struct rlimit none;

	if (config->limits.core)
		return;
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
}

static int admin_listen(struct sn_cli *cli, const struct sn_config *config, struct sn_runtime *rt)
{
	SN_AUTO_FREE char *listen = NULL;
	struct sn_error err;
	int r;

	if (config->admin.address != NULL) { /* sn_open() did it */
		sn__cli_tell(cli, "admin API on %s", config->admin.address);
		return 0;
	}
	r = sn__admin_default(cli, config->name, &listen);
	if (r == 0)
		r = sn__enter(rt);
	if (r < 0) {
		sn__cli_say(cli, "no place for the socket of the admin API: set listen.admin");
		return SN_EXIT_FAILED;
	}
	r = sn__open_admin(rt, config, listen, cli->opt[SN_OPT_AGENT], &err);
	sn__leave(rt);
	if (r < 0)
		sn__cli_say(cli, "admin API: %s", sn_error_text(&err));
	else
		sn__cli_tell(cli, "admin API on %s", listen);
	return r < 0 ? SN_EXIT_FAILED : 0;
}

/* ---- the end: draining, asked for by a signal or over the admin API ---- */

struct course {
	struct sn_cli *cli;
	struct sn_runtime *rt;
	struct sn_lines lines; /* of the access log */
	int signals;
	int told;          /* eventfd: `begun` or `over` has changed, or lines wait */
	atomic_bool begun; /* draining */
	atomic_bool over;
	bool said;
};

static void on_drain(struct sn_runtime *rt, bool over, void *arg)
{
	struct course *c = arg;
	uint64_t one = 1;

	atomic_store(over ? &c->over : &c->begun, true);
	(void)!write(c->told, &one, sizeof(one));
}

static void drain(struct sn_runtime *rt, void *arg)
{
	sn__runtime_drain(rt);
}

/* Whether it is the end: the second signal, or no way to drain. */
static bool on_signal(struct course *c, bool *ret_asked)
{
	struct signalfd_siginfo info;

	if (read(c->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return false;
	if (*ret_asked || atomic_load(&c->begun))
		return true;
	*ret_asked = true;
	return sn_post(c->rt, drain, NULL) < 0;
}

static void on_told(struct course *c)
{
	uint64_t n;

	(void)!read(c->told, &n, sizeof(n));
	if (!atomic_load(&c->begun) || c->said)
		return;
	c->said = true;
	notify("STOPPING=1");
	sn__cli_tell(c->cli, "draining; a signal ends it at once");
}

/* Until what was under way has ended, or nobody waits for it. */
static void wait_for_end(struct course *c)
{
	struct pollfd fds[] = {{.fd = c->signals, .events = POLLIN},
			{.fd = c->told, .events = POLLIN}, {.events = POLLOUT}};
	const int watchdog = watchdog_ms();
	const int ms = watchdog >= 0 ? SN_MIN(watchdog, LOOK_MS) : LOOK_MS;
	const uint64_t every_ns = sn_ms_to_ns((uint64_t)SN_MAX(watchdog, 1));
	uint64_t due_ns = sn__clock_mono_ns() + every_ns;
	bool asked = false;

	while (!atomic_load(&c->over)) {
		int n;

		fds[2].fd = sn__lines_wait(&c->lines) ? STDOUT_FILENO : -1;
		n = poll(fds, SN_COUNT(fds), ms);

		if (n > 0 && fds[0].revents != 0 && on_signal(c, &asked))
			return;
		if (n > 0 && fds[1].revents != 0)
			on_told(c);
		if (n > 0 && fds[2].fd >= 0 && fds[2].revents != 0)
			sn__lines_write(&c->lines);
		/* Lines may leave no quiet moment. */
		if (watchdog >= 0 && sn__clock_mono_ns() >= due_ns) {
			feed_watchdog(c->rt);
			due_ns = sn__clock_mono_ns() + every_ns;
		}
		if (n == 0)
			give_spare_memory_back();
	}
	on_told(c); /* it may have been quick */
}

/* From here on a signal kills. */
static void give_signals_back(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void tell_line(void *arg, const char *text)
{
	sn__cli_tell(arg, "%s", text);
}

/* Where the sections of the dialects listen. */
static void tell_sections(struct course *c, const struct sn_config *config)
{
	if (sn__enter(c->rt) < 0)
		return;
	for (size_t i = 0; sn__config_sections[i] != NULL; i++) {
		if (config->sections[i] != NULL && sn__config_sections[i]->tell != NULL)
			sn__config_sections[i]->tell(c->rt, tell_line, c->cli);
	}
	sn__leave(c->rt);
}

/* Everything the file asks for. */
static int start(struct sn_cli *cli, const struct sn_config *config, const struct sn_options *opts,
		struct sn_runtime **ret_rt)
{
	int r = sn__session_start(cli, opts, ret_rt);

	if (r != 0)
		return r;
	r = admin_listen(cli, config, *ret_rt);
	if (r == 0 && config->sidecar.address != NULL)
		sn__cli_tell(cli, "sidecar on %s", config->sidecar.address);
	if (r == 0 && config->inbound.addr != NULL)
		sn__cli_tell(cli, "inbound on %s", config->inbound.addr);
	return r;
}

static int serve(struct course *c, const struct sn_config *config, sn_run_start_fn *start_fn)
{
	struct sn_options opts = SN_OPTIONS_INIT;
	int r;

	opts.access = sn__lines_add;
	opts.access_arg = &c->lines;
	opts.drain = on_drain;
	opts.drain_arg = c;
	r = start_fn(c->cli, config, &opts, &c->rt);
	if (r == 0) {
		tell_sections(c, config);
		notify("READY=1");
		wait_for_end(c);
		give_signals_back();
	}
	sn__session_close(c->rt); /* on_drain() is not called any more */
	sn__lines_flush(&c->lines, FLUSH_MS);
	return r;
}

int sn__run(struct sn_cli *cli, const struct sn_config *config, sn_run_start_fn *start_fn)
{
	struct course c = {.cli = cli};
	sigset_t set;
	int r = SN_EXIT_FAILED;

	keep_spare_memory();
	harden(config);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	c.signals = signalfd(-1, &set, SFD_CLOEXEC);
	c.told = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sn__lines_init(&c.lines, c.told);
	if (c.signals >= 0 && c.told >= 0)
		r = serve(&c, config, start_fn);
	sn__lines_finish(&c.lines);
	if (c.signals >= 0)
		(void)close(c.signals);
	if (c.told >= 0)
		(void)close(c.told);
	return r;
}

static int run_config(struct sn_cli *cli, int r, struct sn_config *config, struct sn_error *err)
{
	if (r < 0) {
		sn__cli_say(cli, "%s", sn_error_text(err));
		return SN_EXIT_USAGE;
	}
	if (cli->opt[SN_OPT_LOG] == NULL)
		cli->log_json = config->log.format == 1;
	r = sn__run(cli, config, start);
	sn__config_destroy(config);
	return r;
}

int sn__run_text(struct sn_cli *cli, const char *text)
{
	const char *path = sn__session_config(cli);
	struct sn_config *config = NULL;
	struct sn_error err;
	int r = sn__config_parse(path != NULL ? path : cli->cmd->name, sn_str_from(text), NULL,
			NULL, &config, NULL, &err);

	cli->config_text = text;
	return run_config(cli, r, config, &err);
}

int sn__cmd_run(struct sn_cli *cli)
{
	struct sn_config *config = NULL;
	struct sn_error err;
	const char *path;
	int r;

	if (cli->n_args > 0)
		cli->opt[SN_OPT_CONFIG] = cli->args[0];
	path = sn__session_config(cli);
	if (path == NULL) {
		sn__cli_say(cli, "no file: give FILE, set SINEW_CONFIG, or write a sinew.yaml");
		return SN_EXIT_USAGE;
	}
	r = sn__config_load(path, &config, NULL, &err);
	return run_config(cli, r, config, &err);
}
