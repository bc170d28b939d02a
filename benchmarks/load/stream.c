/* Echo over streams: each connection sends a message when the one before came back.
 *
 *   stream ADDRESS CONNECTIONS SIZE SECONDS [closed|open RATE|accepts|refusals|idle]
 *
 * `open`: messages are due at a fixed rate, whichever connection has its turn, and each time counts from when
 * the message was due, so that a server that stood still is not forgiven. `accepts`: each message has a
 * connection of its own. `refusals`: each connection says nothing and waits for the server to end it; that is
 * what is counted. `idle`: nothing is sent after the first message. With -DTLS all of it is TLS 1.3.
 */
#include "load.h"
#ifdef TLS
#include <openssl/ssl.h>
static SSL_CTX *context;
#endif

struct connection {
  int fd, writing, broken;
  size_t to_send, to_come; /* bytes of the message that is under way */
  uint64_t since;
  uint64_t due[64]; /* of messages that wait for their turn (open) */
  unsigned waiting, first;
#ifdef TLS
  SSL *ssl;
#endif
};

static struct address server;
static struct connection *connections;
static int epoll, count, accepting, refusing;
static size_t size;
static char *message, buffer[1 << 18];
static uint64_t done, unanswered, until, missed;

/* Bytes moved, or -1 when there is nothing to be moved now. */
static ssize_t give(struct connection *c) {
  const char *from = message + size - c->to_send;
#ifdef TLS
  int n = SSL_write(c->ssl, from, c->to_send < 16384 ? (int)c->to_send : 16384);
  if (n > 0) return n;
  int why = SSL_get_error(c->ssl, n);
  if (why == SSL_ERROR_WANT_READ) return -2;
  if (why == SSL_ERROR_WANT_WRITE) return -1;
  fail("SSL_write: error %d", why);
#else
  ssize_t n = send(c->fd, from, c->to_send, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) fail("send: %s", strerror(errno));
  return n;
#endif
}

static ssize_t take(struct connection *c) {
#ifdef TLS
  int n = SSL_read(c->ssl, buffer, sizeof buffer);
  if (n > 0) return n;
  int why = SSL_get_error(c->ssl, n);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) return -1;
  fail("SSL_read: error %d", why);
#else
  ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
  if (n < 0 && errno != EAGAIN) fail("recv: %s", strerror(errno));
  if (!n) fail("the server ended a connection");
  return n;
#endif
}

static void push(struct connection *c) {
  ssize_t n = 0;
  while (c->to_send && (n = give(c)) > 0) c->to_send -= (size_t)n;
  int writing = c->to_send && n != -2;
  if (writing != c->writing)
    watch(epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN | (writing ? EPOLLOUT : 0), c);
  c->writing = writing;
}

static void begin(struct connection *c, uint64_t since) {
  c->since = since;
  c->to_send = c->to_come = size;
  unanswered++;
  push(c);
}

static void come(struct connection *c) {
  c->fd = connected(&server);
  c->writing = 0;
  watch(epoll, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
#ifdef TLS
  c->ssl = SSL_new(context);
  SSL_set_fd(c->ssl, c->fd);
  SSL_set_connect_state(c->ssl);
#endif
}

static void go(struct connection *c) {
#ifdef TLS
  SSL_shutdown(c->ssl);
  SSL_free(c->ssl);
#endif
  close(c->fd);
}

static void meet_refusal(struct connection *c) {
  c->since = now();
  c->fd = connected(&server);
  unanswered++;
  watch(epoll, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
}

/* A message is back: what this connection does next. */
static void came_back(struct connection *c, uint64_t time) {
  record(time - c->since);
  done++;
  unanswered--;
  if (accepting) go(c);
  if (time >= until) return;
  if (accepting) come(c);
  begin(c, accepting ? now() : time);
}

static void readable(struct connection *c, int open) {
  ssize_t n;
  while ((n = take(c)) > 0) {
    if ((size_t)n > c->to_come) fail("more came back than was sent");
    if (buffer[n - 1] != message[size - c->to_come + (size_t)n - 1]) fail("something else came back");
    c->to_come -= (size_t)n;
    if (c->to_come) {
      if ((size_t)n < sizeof buffer && size < sizeof buffer) break;
      continue;
    }
    if (!open) return came_back(c, now());
    record(now() - c->since);
    done++, unanswered--;
    if (c->waiting) {
      uint64_t due = c->due[c->first++ % 64];
      c->waiting--;
      begin(c, due);
    }
    return;
  }
  if (c->to_send) push(c); /* TLS may have waited for the other side */
}

/* The server has ended a connection that said nothing: on to the next. */
static void refused(struct connection *c) {
  if (recv(c->fd, buffer, 1, 0) > 0) fail("the server answers a peer that it was to refuse");
  close(c->fd);
  record(now() - c->since);
  done++;
  unanswered--;
  if (now() >= until) return;
  meet_refusal(c);
}

static void turn(int timeout, int open) {
  struct epoll_event events[512];
  int n = epoll_wait(epoll, events, 512, timeout);
  for (int at = 0; at < n; at++) {
    struct connection *c = events[at].data.ptr;
    if (refusing) {
      refused(c);
      continue;
    }
    if (events[at].events & EPOLLOUT) push(c);
    if (events[at].events & ~(uint32_t)EPOLLOUT) readable(c, open);
  }
}

static void finish(int open) {
  for (uint64_t deadline = now() + 10 * SECOND; unanswered;) {
    if (now() > deadline) fail("%llu messages never came back", (unsigned long long)unanswered);
    turn(100, open);
  }
}

static void run_open(double rate, uint64_t start) {
  uint64_t gap = (uint64_t)((double)SECOND / rate);
  int next = 0;
  for (uint64_t due = start; due < until; due += gap) {
    for (uint64_t time; (time = now()) < due;) turn(due - time > 2000000 ? 1 : 0, 1);
    struct connection *c = &connections[next++ % count];
    if (!c->to_come)
      begin(c, due);
    else if (c->waiting < 64)
      c->due[(c->first + c->waiting++) % 64] = due;
    else
      missed++; /* the server is far behind; the harness says so */
  }
  uint64_t waiting = 0;
  do {
    finish(1);
    waiting = 0;
    for (int at = 0; at < count; at++) waiting += connections[at].waiting;
  } while (waiting);
}

int main(int argc, char **argv) {
  if (argc < 6) fail("stream ADDRESS CONNECTIONS SIZE SECONDS closed|open RATE|accepts|refusals|idle");
  many_files();
  server = address(argv[1]);
  count = atoi(argv[2]);
  size = (size_t)atol(argv[3]);
  uint64_t length = (uint64_t)(atof(argv[4]) * (double)SECOND);
  message = malloc(size);
  for (size_t at = 0; at < size; at++) message[at] = (char)('a' + at % 26);
  connections = calloc((size_t)count, sizeof *connections);
  epoll = epoll_create1(EPOLL_CLOEXEC);
#ifdef TLS
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256"); /* the same for all servers */
  SSL_CTX_set1_groups_list(context, "X25519");
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#endif
  accepting = !strcmp(argv[5], "accepts");
  refusing = !strcmp(argv[5], "refusals");
  if (!accepting && !refusing) {
    for (int at = 0; at < count; at++) { /* each is served before the next is here: no backlog overflows */
      come(&connections[at]);
      begin(&connections[at], now());
      if (at % 64 == 63) finish(0);
    }
    finish(0);
    memset(histogram, 0, sizeof histogram);
    recorded = done = 0;
  }
  ready();
  uint64_t start = now();
  until = start + length;
  if (!strcmp(argv[5], "open")) {
    run_open(atof(argv[6]), start);
  } else if (!strcmp(argv[5], "idle")) {
    while (getchar() != EOF) continue;
  } else {
    for (int at = 0; at < count; at++) {
      if (refusing) {
        meet_refusal(&connections[at]);
        continue;
      }
      if (accepting) come(&connections[at]);
      begin(&connections[at], now());
    }
    while (now() < until) turn(100, 0);
    finish(0);
  }
  report(done, now() - start, missed);
  return 0;
}
