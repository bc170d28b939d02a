/* What all load generators share: the clock, a histogram of times, sockets, and how the harness is spoken to.
 *
 * A generator connects, sees that it is served, prints `ready`, waits for a line on its standard input, loads
 * the server, waits until every answer has come, and prints one JSON object. So what the server spent
 * between that line and that object is the price of what was counted.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
  __builtin_va_list rest;
  __builtin_va_start(rest, format);
  vfprintf(stderr, format, rest);
  fputc('\n', stderr);
  exit(1);
}

static inline uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* Times in ns: 64 steps for each power of two, so no more than 1.6 % off. */
static uint64_t histogram[64 * 64], recorded;

static inline void record(uint64_t ns) {
  unsigned power = ns < 128 ? 0 : 57 - (unsigned)__builtin_clzll(ns);
  histogram[power * 64 + (ns >> power)]++;
  recorded++;
}

__attribute__((unused)) static double percentile(double share) { /* in microseconds */
  uint64_t wanted = (uint64_t)(share * (double)recorded), seen = 0;
  for (unsigned at = 0; at < 64 * 64; at++) {
    seen += histogram[at];
    if (histogram[at] && seen >= wanted) {
      unsigned power = at / 64 ? at / 64 - 1 : 0;
      return (double)((uint64_t)(at - power * 64) << power) / 1000;
    }
  }
  return 0;
}

__attribute__((unused)) static void report(uint64_t units, uint64_t ns, uint64_t lost) {
  printf("{\"units\": %llu, \"seconds\": %.6f, \"lost\": %llu", (unsigned long long)units, (double)ns / SECOND,
         (unsigned long long)lost);
  if (recorded)
    printf(", \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f", percentile(.5), percentile(.99), percentile(.999));
  printf("}\n");
  fflush(stdout);
}

__attribute__((unused)) static void ready(void) {
  char line[16];
  printf("ready\n");
  fflush(stdout);
  if (!fgets(line, sizeof line, stdin)) exit(1);
}

__attribute__((unused)) static void many_files(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* `tcp:PORT` or `udp:PORT` of 127.0.0.1, `unix:PATH` or `unixgram:PATH`. */
struct address {
  int family, kind;
  socklen_t length;
  union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
  } to;
};

__attribute__((unused)) static struct address address(const char *text) {
  struct address a = {0};
  const char *rest = strchr(text, ':');
  if (!rest++) fail("%s is no address", text);
  a.kind = !strncmp(text, "udp", 3) || !strncmp(text, "unixgram", 8) ? SOCK_DGRAM : SOCK_STREAM;
  if (!strncmp(text, "unix", 4)) {
    a.family = a.to.un.sun_family = AF_UNIX;
    snprintf(a.to.un.sun_path, sizeof a.to.un.sun_path, "%s", rest);
    a.length = sizeof a.to.un;
  } else {
    a.family = a.to.in.sin_family = AF_INET;
    a.to.in.sin_port = htons((uint16_t)atoi(rest));
    a.to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.length = sizeof a.to.in;
  }
  return a;
}

/* A connected socket that doesn't block. TCP ones take turns in their sources, 127.0.0.1 to 127.0.0.200:
 * else a machine has no more than 28,000 connections to one port, those that have just ended included. */
__attribute__((unused)) static int connected(const struct address *a) {
  static unsigned turn;
  int one = 1, fd = socket(a->family, a->kind | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket: %s", strerror(errno));
  if (a->family == AF_INET && a->kind == SOCK_STREAM) {
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + turn++ % 200)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("bind: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  if (connect(fd, &a->to.any, a->length)) fail("connect: %s", strerror(errno));
  if (fcntl(fd, F_SETFL, O_NONBLOCK)) fail("fcntl: %s", strerror(errno));
  return fd;
}

static inline void watch(int epoll, int how, int fd, uint32_t events, void *of) {
  struct epoll_event event = {.events = events, .data.ptr = of};
  if (epoll_ctl(epoll, how, fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}
