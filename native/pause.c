// The process that holds a pod's namespaces in the lab's local image `pause`: it waits, reaps what is given to it as the
// first process of a shared process namespace, and ends at the first request.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_end(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

static void on_child(int signal_number)
{
	(void)signal_number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction end = {.sa_handler = on_end};
	struct sigaction child = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};

	// As the first process we get only the signals that have a handler.
	if (sigaction(SIGINT, &end, NULL) < 0 || sigaction(SIGTERM, &end, NULL) < 0)
		return 1;
	if (sigaction(SIGCHLD, &child, NULL) < 0)
		return 2;
	for (;;)
		pause();
}
