/*
 * Streams for the repair benchmark, and the moment at which a command returned.
 *   repair echo PORT            answers every UDP packet to its sender, until killed
 *   repair send IP PORT US      sends one packet each US microseconds, until killed; for each answer it writes a line
 *                               "SENT CAME NUMBER", nanoseconds of CLOCK_MONOTONIC and the packet's number
 *   repair run COMMAND...       runs a command and writes the nanosecond at which it had ended; its exit is the command's
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct packet {
  int64_t sent;
  int64_t number;
};

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static int open_udp(int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0) die("bind");
  return fd;
}

static _Noreturn void echo(int port) {
  int fd = open_udp(port);
  for (;;) {
    struct packet packet;
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    ssize_t got = recvfrom(fd, &packet, sizeof packet, 0, (struct sockaddr *)&from, &length);
    /* What is on its way when the path is cut comes back as an error: the next packet is another matter. */
    if (got != sizeof packet) continue;
    sendto(fd, &packet, sizeof packet, 0, (struct sockaddr *)&from, length);
  }
}

static _Noreturn void send_all(const char *ip, int port, int64_t interval) {
  int fd = open_udp(0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, ip, &to.sin_addr) != 1) die("address");
  setvbuf(stdout, NULL, _IOLBF, 0);
  int64_t next = now();
  for (int64_t number = 0;;) {
    int64_t left = next - now();
    if (left <= 0) {
      struct packet packet = {now(), number++};
      sendto(fd, &packet, sizeof packet, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
      next += interval;
      continue;
    }
    struct timespec wait = {left / 1000000000, left % 1000000000};
    struct pollfd poll = {.fd = fd, .events = POLLIN};
    if (ppoll(&poll, 1, &wait, NULL) <= 0) continue;
    struct packet packet;
    if (recv(fd, &packet, sizeof packet, MSG_DONTWAIT) != sizeof packet) continue;
    printf("%lld %lld %lld\n", (long long)packet.sent, (long long)now(), (long long)packet.number);
  }
}

static int run(char **command) {
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    dup2(2, 1);
    execvp(command[0], command);
    die(command[0]);
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) die("waitpid");
  printf("%lld\n", (long long)now());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "echo") == 0) echo(atoi(argv[2]));
  if (argc == 5 && strcmp(argv[1], "send") == 0)
    send_all(argv[2], atoi(argv[3]), (int64_t)atoi(argv[4]) * 1000);
  if (argc > 2 && strcmp(argv[1], "run") == 0) return run(argv + 2);
  fprintf(stderr, "usage: repair echo PORT | send IP PORT MICROSECONDS | run COMMAND...\n");
  return 2;
}
