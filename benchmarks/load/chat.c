/* A room full of members.
 *
 *   chat ADDRESS plain|irc|ncat MEMBERS
 *
 * Each line of standard input, `SPEAKERS SECONDS`, is a round: so many say a line each at once, then all wait until
 * every other member has got every line, again and again. One speaker is a room in lock-step, many are a burst.
 * Counted are deliveries: a line that one member got.
 */
#include "load.h"

struct member {
  int fd, in;
  size_t matched; /* of the mark that says it is in, across reads */
};

static struct member *members;
static int epoll;
static uint64_t delivered;
static char buffer[1 << 18];

static void take(struct member *m, const char *mark) {
  ssize_t n;
  while ((n = recv(m->fd, buffer, sizeof buffer, 0)) > 0) {
    for (char *at = buffer, *end = buffer + n; (at = memchr(at, '\n', (size_t)(end - at))); at++) delivered++;
    for (ssize_t at = 0; !m->in && at < n; at++) {
      m->matched = buffer[at] == mark[m->matched] ? m->matched + 1 : buffer[at] == mark[0];
      m->in = !mark[m->matched];
    }
    if ((size_t)n < sizeof buffer) return;
  }
  if (!n) fail("the server ended a connection");
  if (errno != EAGAIN) fail("recv: %s", strerror(errno));
}

static int turn(int timeout, const char *mark) {
  struct epoll_event events[512];
  int n = epoll_wait(epoll, events, 512, timeout);
  for (int at = 0; at < n; at++) take(events[at].data.ptr, mark);
  return n;
}

static void say(struct member *m, const char *text, size_t length) {
  if (send(m->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length) fail("a line could not be sent whole");
}

static void join(const struct address *server, int count, const char *dialect, const char *mark) {
  uint64_t patience = now() + 60 * SECOND;
  for (int at = 0; at < count; at++) {
    struct member *m = &members[at];
    m->fd = connected(server);
    watch(epoll, EPOLL_CTL_ADD, m->fd, EPOLLIN, m);
    if (!strcmp(dialect, "plain")) say(m, "/rooms\n", 7); /* a member that speaks first is greeted without delay */
    if (!strcmp(dialect, "irc")) {
      char hello[160];
      int length = snprintf(hello, sizeof hello, "NICK m%d\r\nUSER m%d 0 * :m\r\nJOIN #bench\r\n", at, at);
      say(m, hello, (size_t)length);
    }
    for (int one = at - 7; at % 8 == 7 && one <= at; one++) /* some servers have room for ten in their backlog */
      while (!members[one].in) {
        turn(100, mark);
        if (now() > patience) fail("members could not come in");
      }
  }
  while (turn(300, mark)) continue; /* who came and who is there is told for a while */
}

static void talk(int count, int speakers, uint64_t length, const char *line, const char *mark) {
  static int next;
  uint64_t start = now(), total = 0;
  memset(histogram, 0, sizeof histogram);
  recorded = 0;
  for (uint64_t time; (time = now()) < start + length;) {
    uint64_t expected = (uint64_t)speakers * (uint64_t)(count - 1), patience = time + 10 * SECOND;
    delivered = 0;
    for (int at = 0; at < speakers; at++) say(&members[next++ % count], line, strlen(line));
    while (delivered < expected) {
      turn(100, mark);
      if (now() > patience) fail("%llu lines never came", (unsigned long long)(expected - delivered));
    }
    if (delivered > expected) fail("more lines came than were said");
    record(now() - time);
    total += delivered;
  }
  report(total, now() - start, 0);
}

int main(int argc, char **argv) {
  if (argc < 4) fail("chat ADDRESS plain|irc|ncat MEMBERS");
  many_files();
  struct address server = address(argv[1]);
  int irc = !strcmp(argv[2], "irc"), count = atoi(argv[3]) / 8 * 8, speakers;
  const char *mark = irc ? " 366 " : !strcmp(argv[2], "ncat") ? "<announce>" : "-- you are in ";
  const char *said = "good morning everybody, is the build green again today?";
  double seconds;
  char line[128];
  snprintf(line, sizeof line, "%s%s%s", irc ? "PRIVMSG #bench :" : "", said, irc ? "\r\n" : "\n");
  members = calloc((size_t)count, sizeof *members);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  join(&server, count, argv[2], mark);
  printf("ready\n");
  fflush(stdout);
  while (scanf("%d %lf", &speakers, &seconds) == 2)
    talk(count, speakers, (uint64_t)(seconds * (double)SECOND), line, mark);
  return 0;
}
