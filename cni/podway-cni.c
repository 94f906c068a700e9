// podway-cni: the program that a container runtime executes for each CNI verb. It keeps the process contract of CNI
// (environment and stdin in, one JSON document on stdout, exit code) and leaves every decision to the node's agent, whom
// it asks through a unix socket. Invariant: stdout gets nothing, or one whole document. While the agent is away ADD,
// CHECK and GC fail at once, STATUS says 50, and DEL is written to a queue that the agent drains: no DEL is ever lost.
// Killed in the middle of an ADD it closes its socket, by which the agent knows to undo.
#define _GNU_SOURCE
#include "bytes.h"
#include "json.h"
#include "names.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define DEFAULT_SOCKET "/run/podway/agent.sock"
#define SUPPORTED "\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""
#define LATEST "1.1.0"

enum {
	MAX_STDIN = 4 << 20,    // bytes: ten times the largest config seen, prevResult included
	MAX_ANSWER = 4 << 20,   // bytes
	MAX_ID = 200,           // bytes: id, ':' and ifname must fit in a file name
	MAX_QUEUE = 4096,       // DELs that wait for the agent; more than any node's pods
	STDIN_MS = 10000,       // a caller who never closes stdin is no reason to hang
	PEEK_STDIN_MS = 250,    // when stdin matters only for the version that the answer names
	CONNECT_MS = 300,
	ANSWER_MS = 60000,
	DEL_ANSWER_MS = 15000,  // then the DEL is queued, so that it is answered within 20 s in any case
	STATUS_ANSWER_MS = 10000,
	FIRST = -20,            // nice
	SHORTEST_TURN_NS = 100000,
};

enum verb { VERB_NONE, ADD, DEL, CHECK, GC, STATUS, VERSION };
static const char *const verb_names[] = {"", "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"};

// Rows of src/base/causes.ts that this program can meet (a test compares them).
enum cause { INCOMPATIBLE_VERSION, BAD_ENVIRONMENT, IO_FAILURE, BAD_JSON, INVALID_CONFIG, INVALID_NETNS, AGENT_UNREACHABLE, STATUS_UNAVAILABLE };
static const struct { int code; const char *name, *does, *next; } causes[] = {
	{1, "INCOMPATIBLE_VERSION", "Nothing: the runtime asks again as it does after every failure, and gets the same answer.",
	 "Use a cniVersion from 0.1.0 to 1.1.0; CHECK needs 0.4.0, GC and STATUS need 1.1.0."},
	{4, "BAD_ENVIRONMENT", "Nothing: the runtime asks again, and gets the same answer.",
	 "Fix the variables that the message names; the runtime sets them."},
	{5, "IO_FAILURE", "Undoes what the request had done; the runtime asks again.",
	 "Look at the agent log and try again."},
	{6, "BAD_JSON", "Nothing: the runtime asks again, and gets the same answer.",
	 "Fix the config on stdin."},
	{7, "INVALID_CONFIG", "Nothing: the runtime asks again, and gets the same answer.",
	 "Fix the field that the message names."},
	{8, "INVALID_NETNS", "Nothing was made; the runtime asks again with a new sandbox.",
	 "Give the sandbox its own network namespace."},
	{11, "AGENT_UNREACHABLE", "A DEL is queued on disk and served when the agent is back; an ADD is tried again by the runtime.",
	 "See that the agent runs: podway lab logs NODE, or the podway pod of the node."},
	{50, "STATUS_UNAVAILABLE", "Answers STATUS anew each time it is asked.",
	 "Read the message; podway ipam show tells the state of the pool."},
};

static struct {
	enum verb verb;
	const char *id, *netns, *ifname;
	struct text config;
	int config_error;  // errno of reading stdin; -1 while it is unread
	bool is_object;
	char version[VERSION_BYTES];  // what the answer's cniVersion says
	char socket[sizeof((struct sockaddr_un *)0)->sun_path];
} call = {.config_error = -1, .version = LATEST};

static struct json_field fields[] = {{.key = "cniVersion"}, {.key = "name"}, {.key = "agentSocket"}};
#define conf_version fields[0]
#define conf_name fields[1]
#define conf_socket fields[2]

// Reads stdin, and learns from it what the answer's cniVersion must say.
static void read_config(int64_t limit) {
	call.config_error = isatty(STDIN_FILENO) || read_all(STDIN_FILENO, &call.config, MAX_STDIN, now_ms() + limit) ? 0 : errno;
	call.is_object = call.config_error == 0 && call.config.length > 0 &&
	                 json_object(call.config.at, call.config.length, fields, sizeof fields / sizeof *fields);
	if (!call.is_object) return;
	if (conf_version.kind == JSON_STRING && is_version(conf_version.text, conf_version.length)) {
		strcpy(call.version, conf_version.text);
	} else if (call.verb != VERSION && (conf_version.kind == JSON_ABSENT || (conf_version.kind == JSON_STRING && conf_version.length == 0))) {
		strcpy(call.version, "0.1.0");
	}
}

// Appends `from` as the inside of a JSON string. Bytes above ASCII are told one by one: what callers hand in need not be UTF-8.
static size_t quote(char *to, size_t at, size_t cap, const char *from) {
	for (; *from && at + 7 < cap; from++) {
		unsigned char c = (unsigned char)*from;
		if (c == '"' || c == '\\') {
			to[at++] = '\\';
			to[at++] = (char)c;
		} else if (c >= 0x20 && c < 0x7f) {
			to[at++] = (char)c;
		} else {
			at += (size_t)snprintf(to + at, cap - at, "\\u%04x", c);
		}
	}
	to[at] = '\0';
	return at;
}

// Prints the CNI error object and ends. `object` is what the error is about.
__attribute__((noreturn, format(printf, 3, 4))) static void fail(enum cause cause, const char *object, const char *format, ...) {
	char message[1024], quoted[sizeof message * 6], about[512 * 6], details[4096], quoted_details[sizeof details * 2], out[24576];
	if (call.config_error < 0) read_config(PEEK_STDIN_MS);
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof message, format, args);
	va_end(args);
	quote(quoted, 0, sizeof quoted, message);
	quote(about, 0, sizeof about, object);
	char doc[64];
	size_t at = 0;
	for (const char *from = causes[cause].name; *from && at + 1 < sizeof doc; from++) doc[at++] = *from == '_' ? '_' : (char)(*from | 0x20);
	doc[at] = '\0';
	snprintf(details, sizeof details, "{\"cause\":\"%s\",\"object\":\"%s\",\"does\":\"%s\",\"next\":\"%s\",\"doc\":\"docs/causes.md#%s\"}",
	         causes[cause].name, about, causes[cause].does, causes[cause].next, doc);
	quote(quoted_details, 0, sizeof quoted_details, details);
	int n = snprintf(out, sizeof out, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s: %s\",\"details\":\"%s\"}\n", call.version,
	                 causes[cause].code, causes[cause].name, quoted, quoted_details);
	write_all(STDOUT_FILENO, out, (size_t)n);
	_exit(1);
}

static const char *variable(const char *name) {
	const char *value = getenv(name);
	return value ? value : "";
}

// KEY=VALUE;KEY=VALUE, each with one `=`. A DEL uses no arguments and is never refused for them.
static void check_args(const char *args) {
	for (const char *pair = args; *args && pair; pair = strchr(pair, ';') ? strchr(pair, ';') + 1 : NULL) {
		size_t length = strcspn(pair, ";"), key = strcspn(pair, "=;");
		if (key == 0 || key == length || memchr(pair + key + 1, '=', length - key - 1)) {
			fail(BAD_ENVIRONMENT, "CNI_ARGS", "CNI_ARGS has \"%.*s\", which is not KEY=VALUE", (int)(length < 64 ? length : 64), pair);
		}
	}
}

static void check_environment(void) {
	const char *missing[3];
	int count = 0;
	if (call.verb == ADD || call.verb == DEL || call.verb == CHECK) {
		if (!*call.id) missing[count++] = "CNI_CONTAINERID";
		if (!*call.netns && call.verb != DEL) missing[count++] = "CNI_NETNS";
		if (!*call.ifname) missing[count++] = "CNI_IFNAME";
	}
	if (count > 0) {
		fail(BAD_ENVIRONMENT, missing[0], "required variables are missing: %s%s%s%s%s", missing[0], count > 1 ? ", " : "",
		     count > 1 ? missing[1] : "", count > 2 ? ", " : "", count > 2 ? missing[2] : "");
	}
	if (call.verb != ADD && call.verb != DEL && call.verb != CHECK) return;
	if (!is_name(call.id, strlen(call.id)) || strlen(call.id) > MAX_ID) {
		fail(BAD_ENVIRONMENT, "CNI_CONTAINERID", "CNI_CONTAINERID \"%.64s\" is not a container id: a letter or digit, then letters, digits, _ . -, at most %d", call.id, MAX_ID);
	}
	if (!is_ifname(call.ifname)) {
		fail(BAD_ENVIRONMENT, "CNI_IFNAME", "CNI_IFNAME \"%.64s\" is not an interface name: 1 to %d bytes of text, no / : %% or white space, not . .. all or default", call.ifname, MAX_IFNAME);
	}
	if (call.verb != DEL) check_args(variable("CNI_ARGS"));
}

static void check_config(void) {
	if (conf_name.kind == JSON_ABSENT || (conf_name.kind == JSON_STRING && conf_name.length == 0)) {
		fail(INVALID_CONFIG, "name", "the config has no network name");
	}
	if (conf_name.kind != JSON_STRING || conf_name.length >= JSON_FIELD || !is_name(conf_name.text, conf_name.length)) {
		fail(INVALID_CONFIG, "name", "\"%.64s\" is not a network name: a letter or digit, then letters, digits, _ . -", conf_name.text);
	}
	if (conf_version.kind == JSON_OTHER || (conf_version.kind == JSON_STRING && conf_version.length > 0 && !is_version(conf_version.text, conf_version.length))) {
		fail(BAD_JSON, "cniVersion", "cniVersion \"%.64s\" is not a version", conf_version.text);
	}
	char quoted[sizeof call.version + 2];
	snprintf(quoted, sizeof quoted, "\"%s\"", call.version);
	if (!strstr(SUPPORTED, quoted)) fail(INCOMPATIBLE_VERSION, "cniVersion", "cniVersion %s is not supported", call.version);
	// The seven versions sort as text.
	const char *least = call.verb == CHECK ? "0.4.0" : call.verb == GC || call.verb == STATUS ? "1.1.0" : "0.1.0";
	if (strcmp(call.version, least) < 0) {
		fail(INCOMPATIBLE_VERSION, "cniVersion", "%s needs cniVersion %s, the config says %s", verb_names[call.verb], least, call.version);
	}
}

static void choose_socket(void) {
	const char *path = variable("PODWAY_AGENT_SOCKET");
	size_t length = strlen(path);
	if (!*path) {
		if (conf_socket.kind == JSON_OTHER) fail(INVALID_CONFIG, "agentSocket", "agentSocket is not a string");
		path = conf_socket.kind == JSON_STRING ? conf_socket.text : DEFAULT_SOCKET;
		length = conf_socket.kind == JSON_STRING ? conf_socket.length : strlen(path);
	}
	if (path[0] != '/' || length >= sizeof call.socket || strlen(path) != length) {
		fail(INVALID_CONFIG, "agentSocket", "agentSocket \"%.120s\" is not an absolute path of less than %zu bytes", path, sizeof call.socket);
	}
	memcpy(call.socket, path, length + 1);
}

// A plugin must not touch the namespace it runs in (specified by the reference skeleton; the agent checks its own).
static void check_namespace(void) {
	const char *override = variable("CNI_NETNS_OVERRIDE");
	struct stat own, given;
	if (call.verb != ADD || strcmp(override, "1") == 0 || strcasecmp(override, "true") == 0) return;
	if (stat("/proc/self/ns/net", &own) == 0 && stat(call.netns, &given) == 0 && own.st_dev == given.st_dev && own.st_ino == given.st_ino) {
		fail(INVALID_NETNS, "CNI_NETNS", "CNI_NETNS %.200s is the namespace of the plugin itself", call.netns);
	}
}

static bool add_variable(struct text *t, const char *name, const char *value) {
	char head[96];
	int n = snprintf(head, sizeof head, "env %s %zu\n", name, strlen(value));
	return append(t, head, (size_t)n) && append(t, value, strlen(value)) && append(t, "\n", 1);
}

// The request as src/cni/wire.ts reads it. `queued_at`: for the queue, with no more config than a DEL needs.
static bool write_request(struct text *t, const char *queued_at) {
	static const char *const names[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE"};
	char head[64], small[JSON_FIELD + 64];
	const char *config = call.config.at;
	size_t length = call.config.length;
	bool ok = append(t, "PODWAY-CNI/1\n", 13);
	if (queued_at) {
		ok = ok && add_variable(t, "CNI_COMMAND", "DEL") && add_variable(t, "CNI_CONTAINERID", call.id) &&
		     add_variable(t, "CNI_IFNAME", call.ifname) && add_variable(t, "PODWAY_QUEUED_AT", queued_at);
		length = (size_t)snprintf(small, sizeof small, "{\"cniVersion\":\"%s\",\"name\":\"%s\"}", call.version, conf_name.text);
		config = small;
	}
	for (size_t i = 0; !queued_at && i < sizeof names / sizeof *names; i++) {
		if (getenv(names[i])) ok = ok && add_variable(t, names[i], variable(names[i]));
	}
	int n = snprintf(head, sizeof head, "stdin %zu\n", length);
	return ok && append(t, head, (size_t)n) && append(t, config, length) && append(t, "\nend\n", 5);
}

// Makes `path` a directory of ours; an existing one is fine.
static bool make_directory(const char *path) { return mkdir(path, 0700) == 0 || errno == EEXIST; }

// Writes the DEL into `queue/` beside the socket: one file per id and ifname, written aside and renamed. NULL, or what failed.
static const char *queue_del(void) {
	char path[sizeof call.socket + 8], name[MAX_ID + MAX_IFNAME + 2], aside[64], when[32];
	struct text request = {0};
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	snprintf(when, sizeof when, "%lld", (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000);
	snprintf(name, sizeof name, "%s:%s", call.id, call.ifname);
	snprintf(aside, sizeof aside, ".aside-%ld-%ld", (long)getpid(), t.tv_nsec);
	if (!write_request(&request, when)) return "out of memory";

	memcpy(path, call.socket, sizeof call.socket);
	char *slash = strrchr(path, '/');
	*slash = '\0';
	if (*path && !make_directory(path)) return strerror(errno);
	memcpy(slash, "/queue", 7);
	if (!make_directory(path)) return strerror(errno);
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *entries = dir < 0 ? NULL : fdopendir(dir);
	if (!entries) return strerror(errno);
	int count = 0;
	bool replaces = false;
	for (struct dirent *e; (e = readdir(entries));) {
		count += e->d_name[0] != '.';
		replaces = replaces || strcmp(e->d_name, name) == 0;
	}
	if (count >= MAX_QUEUE && !replaces) return "the queue is full";

	int fd = openat(dir, aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) return strerror(errno);
	bool written = write_all(fd, request.at, request.length);
	if (close(fd) != 0 || !written || renameat(dir, aside, dir, name) != 0) {
		int reason = errno;
		unlinkat(dir, aside, 0);
		return strerror(reason);
	}
	return NULL;
}

// The agent gave no usable answer: what that means for each verb.
__attribute__((noreturn)) static void without_agent(enum cause cause, const char *what) {
	if (call.verb == STATUS) fail(STATUS_UNAVAILABLE, call.socket, "the agent at %s is not reachable: %s", call.socket, what);
	if (call.verb == DEL) {
		const char *reason = queue_del();
		if (!reason) _exit(0);
		fail(AGENT_UNREACHABLE, call.socket, "the agent at %s is not reachable (%s) and the DEL cannot be queued: %s", call.socket, what, reason);
	}
	fail(cause, call.socket, "the agent at %s did not serve %s: %s", call.socket, verb_names[call.verb], what);
}

static int connect_agent(void) {
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_usec = CONNECT_MS * 1000};
	memcpy(address.sun_path, call.socket, sizeof address.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	// unix(7): connect blocks only while the listener's backlog is full, for as long as SO_SNDTIMEO says.
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		without_agent(AGENT_UNREACHABLE, errno == EAGAIN ? "its backlog is full" : strerror(errno));
	}
	return fd;
}

static int ask_agent(void) {
	struct text request = {0}, answer = {0};
	int64_t deadline = now_ms() + (call.verb == DEL ? DEL_ANSWER_MS : call.verb == STATUS ? STATUS_ANSWER_MS : ANSWER_MS);
	if (!write_request(&request, NULL)) fail(IO_FAILURE, "memory", "out of memory");
	int fd = connect_agent();
	// An agent that refuses early has its answer in the socket already: read it even when sending failed.
	bool sent = send_all(fd, &request, deadline);
	if (!read_all(fd, &answer, MAX_ANSWER, deadline)) {
		without_agent(errno == ETIMEDOUT ? AGENT_UNREACHABLE : IO_FAILURE, errno == ETIMEDOUT ? "no answer in time" : strerror(errno));
	}
	static const char ok_head[] = "PODWAY-CNI/1 0\n", failed_head[] = "PODWAY-CNI/1 1\n";
	const size_t head = sizeof ok_head - 1;
	if (answer.length < head) without_agent(IO_FAILURE, sent ? "it closed the connection before it answered" : "it closed the connection");
	bool ok = memcmp(answer.at, ok_head, head) == 0;
	if (!ok && memcmp(answer.at, failed_head, head) != 0) without_agent(IO_FAILURE, "its answer is not in the protocol");
	const char *body = answer.at + head;
	size_t length = answer.length - head;
	// An agent killed in the middle of its answer leaves half a document, which must not be printed.
	bool may_be_empty = ok && call.verb != ADD;
	if (!(may_be_empty && length == 0) && !json_object(body, length, NULL, 0)) without_agent(IO_FAILURE, "its answer is not a whole JSON document");
	return write_all(STDOUT_FILENO, body, length) && ok ? 0 : 1;
}

// This program works for less than a millisecond, and waits for a CPU at each step between dozens that start
// containers: it asks to be taken first. Of equals Linux takes whoever asks for the shortest turn (EEVDF, 6.12 on;
// before, no effect).
static void hurry(void) {
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} turns = {0};
	setpriority(PRIO_PROCESS, 0, FIRST);
	if (syscall(SYS_sched_getattr, 0, &turns, sizeof turns, 0) != 0 || turns.policy != SCHED_OTHER) return;
	turns.runtime = SHORTEST_TURN_NS;
	syscall(SYS_sched_setattr, 0, &turns, 0);
}

int main(void) {
	hurry();
	// Descriptors 0 to 2 must exist, or the socket would become one of them.
	for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd <= 2;) fd = dup(fd);
	const char *command = variable("CNI_COMMAND");
	if (!*command) {
		static const char about[] = "podway-cni: pod networking with addresses of the VPC; the node's agent does the work\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n";
		write_all(STDERR_FILENO, about, sizeof about - 1);
		return 0;
	}
	for (int v = ADD; v <= VERSION; v++) {
		if (strcmp(command, verb_names[v]) == 0) call.verb = (enum verb)v;
	}
	call.id = variable("CNI_CONTAINERID");
	call.netns = variable("CNI_NETNS");
	call.ifname = variable("CNI_IFNAME");

	if (call.verb == VERSION) {
		char out[256];
		read_config(PEEK_STDIN_MS);
		int n = snprintf(out, sizeof out, "{\"cniVersion\":\"%s\",\"supportedVersions\":[" SUPPORTED "]}\n", call.version);
		return write_all(STDOUT_FILENO, out, (size_t)n) ? 0 : 1;
	}
	if (call.verb == VERB_NONE) fail(BAD_ENVIRONMENT, "CNI_COMMAND", "unknown CNI_COMMAND: %.64s", command);
	check_environment();
	read_config(STDIN_MS);
	if (call.config_error == EFBIG) fail(INVALID_CONFIG, "stdin", "the config on stdin is larger than %d bytes", MAX_STDIN);
	if (call.config_error == ETIMEDOUT) fail(IO_FAILURE, "stdin", "the config on stdin did not end in time");
	if (call.config_error != 0) fail(IO_FAILURE, "stdin", "reading the config from stdin: %s", strerror(call.config_error));
	if (!call.is_object) fail(BAD_JSON, "stdin", "stdin is not a JSON object%s", call.config.length == 0 ? ": it is empty" : "");
	check_config();
	choose_socket();
	check_namespace();
	return ask_agent();
}
