/* Runs a command on a terminal of its own and copies between it and standard input and output: what a container
 * runtime does for `exec -t`. Descriptor 3 tells sizes, a line of rows and columns each. Ends with the command's exit code,
 * or 128 and its signal. SIGHUP or SIGTERM hang the terminal up; a command that stays is killed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZES 3
#define GRACE 50 /* hundredths of a second for a command whose terminal is gone */

static int write_all(int fd, const char *bytes, ssize_t length) {
  while (length > 0) {
    ssize_t done = write(fd, bytes, (size_t)length);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return -1;
    bytes += done;
    length -= done;
  }
  return 0;
}

/* Input that the terminal has not taken yet: while there is some no more is read, so that a command that writes before it
 * reads is still listened to. */
static char waiting[16384];
static ssize_t waits, given;

static void give(int terminal) {
  ssize_t done = write(terminal, waiting + given, (size_t)(waits - given));
  if (done > 0) given += done;
  if (given == waits || (done < 0 && errno != EAGAIN && errno != EINTR)) waits = given = 0;
}

static void take_input(struct pollfd *input) {
  ssize_t got = read(input->fd, waiting, sizeof waiting);
  if (got < 0 && errno == EINTR) return;
  if (got <= 0) input->fd = -1;
  given = 0;
  waits = got > 0 ? got : 0;
}

static volatile sig_atomic_t hung_up;

static void on_signal(int signal) {
  if (signal != SIGCHLD) hung_up = 1;
}

/* Takes the last whole line in `text`; keeps what follows it. */
static void resize(int terminal, char *text, size_t *length) {
  char *end = memrchr(text, '\n', *length);
  if (!end) {
    if (*length > 60) *length = 0;
    return;
  }
  *end = 0;
  char *line = strrchr(text, '\n');
  struct winsize size = {0};
  unsigned rows, columns;
  if (sscanf(line ? line + 1 : text, "%u %u", &rows, &columns) == 2) {
    size.ws_row = (unsigned short)rows;
    size.ws_col = (unsigned short)columns;
    ioctl(terminal, TIOCSWINSZ, &size);
  }
  size_t left = *length - (size_t)(end + 1 - text);
  memmove(text, end + 1, left);
  *length = left;
}

int main(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: pod-tty COMMAND [ARGUMENT...]\n");
    return 2;
  }
  fcntl(SIZES, F_SETFD, FD_CLOEXEC);
  /* These come only while ppoll waits: none can be missed. */
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGCHLD);
  sigaddset(&blocked, SIGHUP);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  int terminal;
  pid_t child = forkpty(&terminal, NULL, NULL, NULL);
  if (child < 0) {
    perror("pod-tty: forkpty");
    return 126;
  }
  if (child == 0) {
    sigprocmask(SIG_SETMASK, &before, NULL);
    execvp(argv[1], argv + 1);
    fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
    _exit(errno == ENOENT ? 127 : 126);
  }
  fcntl(terminal, F_SETFL, O_NONBLOCK);
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGCHLD, &action, NULL);
  sigaction(SIGHUP, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  struct pollfd at[3] = {{.fd = terminal}, {.fd = 0}, {.fd = SIZES, .events = POLLIN}};
  char bytes[16384], line[256];
  size_t held = 0;
  int status, ended = 0;
  for (;;) {
    if (!ended) ended = waitpid(child, &status, WNOHANG) == child;
    at[0].events = (short)(POLLIN | (waits ? POLLOUT : 0));
    at[1].events = waits ? 0 : POLLIN;
    /* After the command's end only what it wrote is still copied: others may keep the terminal open. */
    const struct timespec now = {0};
    int ready = ppoll(at, ended ? 1 : 3, ended ? &now : NULL, &before);
    if (hung_up || (ready < 0 && errno != EINTR)) break;
    if (ready <= 0) {
      if (ended) break;
      continue;
    }
    if (at[0].revents & (POLLIN | POLLHUP | POLLERR)) {
      ssize_t got = read(terminal, bytes, sizeof bytes);
      /* EIO: nobody has the terminal open any more. */
      if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) break;
      if (got > 0 && write_all(1, bytes, got) < 0) hung_up = 1;
      if (hung_up) break;
    } else if (ended)
      break;
    if (waits && at[0].revents & POLLOUT) give(terminal);
    if (ended) continue;
    if (at[1].revents && !waits) take_input(&at[1]);
    if (at[2].revents) {
      ssize_t got = read(SIZES, line + held, sizeof line - 1 - held);
      if (got > 0) {
        held += (size_t)got;
        line[held] = 0;
        resize(terminal, line, &held);
      } else if (got == 0 || errno != EINTR)
        at[2].fd = -1;
    }
  }
  /* The command gets SIGHUP. */
  close(terminal);
  for (int i = 0; hung_up && !ended && i < GRACE; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    ended = waitpid(child, &status, WNOHANG) == child;
  }
  if (hung_up) kill(-child, SIGKILL);
  while (!ended && waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return 126;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
