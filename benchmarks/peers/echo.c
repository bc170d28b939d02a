/* The limit: the smallest epoll loop that echoes, on `tcp:PORT`, `unix:PATH` or, with recvmmsg, `udp:PORT`.
 *
 * It keeps the order and waits for who doesn't read, as the others do, but has no limits and counts nothing.
 */
#include "../load/load.h"

enum { BATCH = 64, DATAGRAM_BYTES = 2048 };

struct connection {
  int fd;
  size_t held, sent; /* bytes read, and of those the ones that are back */
  char *bytes;
};

static char buffer[1 << 18];
static int epoll;

static void end(struct connection *c) {
  close(c->fd);
  free(c->bytes);
  free(c);
}

/* What could not be sent is kept, and nothing more is read until it is gone. */
static void keep(struct connection *c, const char *from, size_t length) {
  c->bytes = malloc(length);
  memcpy(c->bytes, from, length);
  c->held = length;
  c->sent = 0;
  watch(epoll, EPOLL_CTL_MOD, c->fd, EPOLLOUT, c);
}

static void writable(struct connection *c) {
  ssize_t n = send(c->fd, c->bytes + c->sent, c->held - c->sent, MSG_NOSIGNAL);
  if (n < 0) {
    if (errno != EAGAIN) end(c);
    return;
  }
  c->sent += (size_t)n;
  if (c->sent < c->held) return;
  free(c->bytes);
  c->bytes = NULL;
  watch(epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void readable(struct connection *c) {
  ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
  if (n <= 0) {
    if (!n || errno != EAGAIN) end(c);
    return;
  }
  ssize_t sent = send(c->fd, buffer, (size_t)n, MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN) return end(c);
  if (sent < 0) sent = 0;
  if (sent < n) keep(c, buffer + sent, (size_t)(n - sent));
}

static void serve_streams(int listening) {
  int one = 1;
  epoll = epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, EPOLL_CTL_ADD, listening, EPOLLIN, NULL);
  for (;;) {
    struct epoll_event events[512];
    int n = epoll_wait(epoll, events, 512, -1);
    for (int at = 0; at < n; at++) {
      struct connection *c = events[at].data.ptr;
      if (c && events[at].events & EPOLLOUT) {
        writable(c);
      } else if (c) {
        readable(c);
      } else {
        int fd;
        while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          c = calloc(1, sizeof *c);
          c->fd = fd;
          watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
        }
      }
    }
  }
}

static void serve_datagrams(int fd) {
  static char bytes[BATCH][DATAGRAM_BYTES];
  static struct sockaddr_storage peers[BATCH];
  static struct iovec parts[BATCH];
  static struct mmsghdr messages[BATCH];
  for (;;) {
    for (int at = 0; at < BATCH; at++) {
      parts[at] = (struct iovec){bytes[at], DATAGRAM_BYTES};
      messages[at].msg_hdr = (struct msghdr){
          .msg_name = &peers[at], .msg_namelen = sizeof peers[at], .msg_iov = &parts[at], .msg_iovlen = 1};
    }
    int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    for (int at = 0; at < n; at++) parts[at].iov_len = messages[at].msg_len;
    for (int at = 0; at < n;) {
      int sent = sendmmsg(fd, messages + at, (unsigned)(n - at), 0);
      at += sent > 0 ? sent : 1; /* what can't be sent is dropped */
    }
  }
}

int main(int argc, char **argv) {
  if (argc < 2) fail("echo ADDRESS");
  many_files();
  struct address a = address(argv[1]);
  int one = 1, fd = socket(a.family, a.kind | SOCK_CLOEXEC | (a.kind == SOCK_STREAM ? SOCK_NONBLOCK : 0), 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, &a.to.any, a.length)) fail("bind: %s", strerror(errno));
  if (a.kind == SOCK_DGRAM) serve_datagrams(fd);
  if (listen(fd, 1024)) fail("listen: %s", strerror(errno));
  serve_streams(fd);
}
