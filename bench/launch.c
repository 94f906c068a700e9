/*
 * launch: executes a CNI plugin as a runtime does and times each call, from posix_spawn to the exit seen by waitpid.
 * usage: launch PLUGIN VERB AT_ONCE CONFIG IFNAME OUT   (standard input: a line "CONTAINER_ID NETNS_PATH" for each call)
 * prints for each call "CONTAINER_ID EXIT NANOSECONDS ENDED" (ENDED since 1970) and at the end "total NANOSECONDS"; the
 * plugins' own output is appended to OUT. CNI_PATH and CNI_ARGS are passed on, with the container's id for the first @ of
 * CNI_ARGS. A launch from Node costs a millisecond of its own; this does not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CALLS 20000
#define MAX_AT_ONCE 256

extern char **environ;

struct call {
	char id[80];
	char netns[256];
	pid_t pid;
	int64_t started, took, ended;
	int exit_code;
};

static int64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void start(struct call *call, char **argv)
{
	char command[32], id[128], netns[300], ifname[64];
	char *path = getenv("CNI_PATH"), *args = getenv("CNI_ARGS");
	char path_var[4096], args_var[4096];
	char *env[8];
	int n = 0;
	posix_spawn_file_actions_t files;
	char *child_argv[] = {argv[1], NULL};

	snprintf(command, sizeof command, "CNI_COMMAND=%s", argv[2]);
	snprintf(id, sizeof id, "CNI_CONTAINERID=%s", call->id);
	snprintf(netns, sizeof netns, "CNI_NETNS=%s", call->netns);
	snprintf(ifname, sizeof ifname, "CNI_IFNAME=%s", argv[5]);
	snprintf(path_var, sizeof path_var, "CNI_PATH=%s", path ? path : "/usr/lib/cni");
	env[n++] = command;
	env[n++] = id;
	env[n++] = netns;
	env[n++] = ifname;
	env[n++] = path_var;
	if (args) {
		char *at = strchr(args, '@');

		if (at)
			snprintf(args_var, sizeof args_var, "CNI_ARGS=%.*s%s%s", (int)(at - args), args, call->id, at + 1);
		else
			snprintf(args_var, sizeof args_var, "CNI_ARGS=%s", args);
		env[n++] = args_var;
	}
	env[n] = NULL;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, argv[4], O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, argv[6], O_WRONLY | O_CREAT | O_APPEND, 0600);
	call->started = now(CLOCK_MONOTONIC);
	errno = posix_spawn(&call->pid, argv[1], &files, NULL, child_argv, env);
	if (errno)
		die(argv[1]);
	posix_spawn_file_actions_destroy(&files);
}

int main(int argc, char **argv)
{
	static struct call calls[MAX_CALLS];
	int count = 0, next = 0, running = 0, at_once;
	int64_t began;

	if (argc != 7 || (at_once = atoi(argv[3])) < 1 || at_once > MAX_AT_ONCE) {
		fprintf(stderr, "usage: launch PLUGIN VERB AT_ONCE(1-%d) CONFIG IFNAME OUT\n", MAX_AT_ONCE);
		return 2;
	}
	while (count < MAX_CALLS && scanf("%79s %255s", calls[count].id, calls[count].netns) == 2)
		count++;
	began = now(CLOCK_MONOTONIC);
	while (next < count || running > 0) {
		int status;
		pid_t pid;

		while (running < at_once && next < count) {
			start(&calls[next++], argv);
			running++;
		}
		pid = waitpid(-1, &status, 0);
		if (pid < 0)
			die("waitpid");
		for (int i = 0; i < next; i++) {
			if (calls[i].pid != pid)
				continue;
			calls[i].took = now(CLOCK_MONOTONIC) - calls[i].started;
			calls[i].ended = now(CLOCK_REALTIME);
			calls[i].exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			calls[i].pid = 0;
			running--;
			break;
		}
	}
	began = now(CLOCK_MONOTONIC) - began;
	for (int i = 0; i < count; i++)
		printf("%s %d %lld %lld\n", calls[i].id, calls[i].exit_code, (long long)calls[i].took, (long long)calls[i].ended);
	printf("total %lld\n", (long long)began);
	return 0;
}
