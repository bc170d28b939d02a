/* Lines, as fast as the server takes them.
 *
 *   lines ADDRESS SENDERS SIZE LINES
 *
 * Over UDP nobody tells a sender to wait, so the server's receive buffer is looked at before each batch. Streams are written some 4 KiB at a time, as stdio does, by all senders in turn; a datagram is a line. The file
 * that the lines end up in is looked at by the harness, which knows how many there should be.
 */
#include "load.h"

enum { BATCH = 16, ROOM = 100000 }; /* half of the usual receive buffer, with the kernel's own share */

struct sender {
  int fd;
  uint64_t left; /* bytes */
};

static char *chunk;
static size_t chunk_length;

/* Lines of a syslog sender, so that those who want to parse them can. */
static void fill(size_t size) {
  static const char *head = "<13>Nov 20 05:00:00 host bench: ";
  size_t count = 4096 / size ? 4096 / size : 1;
  chunk_length = count * size;
  chunk = malloc(chunk_length);
  for (size_t at = 0; at < chunk_length; at++) {
    size_t column = at % size;
    chunk[at] = column < strlen(head) ? head[column] : (char)(column % 8 ? 'a' + column % 26 : ' ');
    if (column == size - 1) chunk[at] = '\n';
  }
}

static void over_streams(const struct address *a, int count, uint64_t bytes) {
  int epoll = epoll_create1(EPOLL_CLOEXEC), most = 131072, left = count;
  struct sender *senders = calloc((size_t)count, sizeof *senders);
  for (int at = 0; at < count; at++) {
    senders[at] = (struct sender){connected(a), bytes};
    setsockopt(senders[at].fd, SOL_SOCKET, SO_SNDBUF, &most, sizeof most);
    if (at % 64 == 63) usleep(20000); /* so that no backlog overflows */
  }
  ready();
  for (int at = 0; at < count; at++) watch(epoll, EPOLL_CTL_ADD, senders[at].fd, EPOLLOUT, &senders[at]);
  while (left) {
    struct epoll_event events[512];
    int n = epoll_wait(epoll, events, 512, 20000);
    if (n < 1) fail("the server takes nothing any more");
    for (int at = 0; at < n; at++) {
      struct sender *s = events[at].data.ptr;
      size_t begin = (size_t)((bytes - s->left) % chunk_length), length = chunk_length - begin;
      if (length > s->left) length = (size_t)s->left;
      ssize_t sent = send(s->fd, chunk + begin, length, MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
      if (sent > 0) s->left -= (uint64_t)sent;
      if (!s->left) {
        close(s->fd);
        left--;
      }
    }
  }
}

/* Bytes that wait in the receive buffer of this UDP port. */
static unsigned long waiting(int table, unsigned port) {
  static char text[1 << 16];
  char local[16], *line;
  ssize_t n = pread(table, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = 0;
  snprintf(local, sizeof local, ": 0100007F:%04X ", port);
  if (!(line = strstr(text, local)) || !(line = strchr(line + strlen(local) + 16, ':'))) fail("no such UDP port");
  return strtoul(line + 1, NULL, 16);
}

static void over_datagrams(const struct address *a, uint64_t lines, size_t size) {
  struct mmsghdr messages[BATCH] = {0};
  struct iovec part = {chunk, size - 1}; /* datagrams need no newline */
  int fd = connected(a), table = open("/proc/net/udp", O_RDONLY);
  if (fcntl(fd, F_SETFL, 0)) fail("fcntl: %s", strerror(errno));
  for (int at = 0; at < BATCH; at++) messages[at].msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
  ready();
  for (uint64_t gone = 0; gone < lines;) {
    while (a->family == AF_INET && waiting(table, ntohs(a->to.in.sin_port)) > ROOM) continue;
    unsigned batch = lines - gone < BATCH ? (unsigned)(lines - gone) : BATCH;
    int n = sendmmsg(fd, messages, batch, 0);
    if (n < 0) fail("sendmmsg: %s", strerror(errno));
    gone += (uint64_t)n;
  }
}

int main(int argc, char **argv) {
  if (argc < 5) fail("lines ADDRESS SENDERS SIZE LINES");
  many_files();
  struct address a = address(argv[1]);
  int count = atoi(argv[2]);
  size_t size = (size_t)atol(argv[3]);
  uint64_t lines = (uint64_t)atoll(argv[4]) / (uint64_t)count, start = 0;
  fill(size);
  start = now();
  if (a.kind == SOCK_DGRAM)
    over_datagrams(&a, lines, size);
  else
    over_streams(&a, count, lines * size);
  report(lines * (uint64_t)count, now() - start, 0);
  return 0;
}
