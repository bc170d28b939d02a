/* Echo over UDP: each socket keeps a window of datagrams under way, sent and received in batches.
 *
 *   datagrams ADDRESS SOCKETS WINDOW SIZE SECONDS
 *
 * What didn't come back within a tenth of a second is lost, and counted as such.
 */
#include "load.h"

enum { BATCH = 64, DATAGRAM_BYTES = 2048 };
#define LOSS_TIMEOUT (SECOND / 10)

struct line {
  int fd;
  unsigned unanswered;
  uint64_t last; /* when something was sent or came back */
};

static struct mmsghdr out[BATCH], in[BATCH];
static struct iovec out_parts[BATCH], in_parts[BATCH];
static char sent[BATCH][DATAGRAM_BYTES], got[BATCH][DATAGRAM_BYTES];
static size_t size;
static uint64_t done, lost;

static void push(struct line *l, unsigned count) {
  uint64_t time = now();
  for (unsigned at = 0; at < count; at++) memcpy(sent[at], &time, sizeof time);
  for (unsigned at = 0; at < count;) {
    int n = sendmmsg(l->fd, out + at, count - at, 0);
    if (n < 0) fail("sendmmsg: %s", strerror(errno));
    at += (unsigned)n;
  }
  l->unanswered += count;
  l->last = time;
}

static unsigned pull(struct line *l) {
  int n = recvmmsg(l->fd, in, BATCH, MSG_DONTWAIT, NULL);
  if (n < 0 && errno != EAGAIN) fail("recvmmsg: %s", strerror(errno));
  uint64_t time = now();
  for (int at = 0; at < n; at++) {
    uint64_t since;
    if (in[at].msg_len != size) fail("another length came back");
    memcpy(&since, got[at], sizeof since);
    record(time - since);
  }
  if (n <= 0) return 0;
  done += (unsigned)n;
  l->last = time;
  l->unanswered = l->unanswered > (unsigned)n ? l->unanswered - (unsigned)n : 0;
  return (unsigned)n;
}

int main(int argc, char **argv) {
  if (argc < 6) fail("datagrams ADDRESS SOCKETS WINDOW SIZE SECONDS");
  struct address server = address(argv[1]);
  unsigned count = (unsigned)atoi(argv[2]), window = (unsigned)atoi(argv[3]), unanswered = 0;
  size = (size_t)atol(argv[4]);
  uint64_t length = (uint64_t)(atof(argv[5]) * (double)SECOND);
  if (window > BATCH || size > DATAGRAM_BYTES || size < 8) fail("too many or too long");
  struct line *lines = calloc(count, sizeof *lines);
  for (unsigned at = 0; at < BATCH; at++) {
    memset(sent[at], 'a', DATAGRAM_BYTES);
    out_parts[at] = (struct iovec){sent[at], size};
    in_parts[at] = (struct iovec){got[at], DATAGRAM_BYTES};
    out[at].msg_hdr = (struct msghdr){.msg_iov = &out_parts[at], .msg_iovlen = 1};
    in[at].msg_hdr = (struct msghdr){.msg_iov = &in_parts[at], .msg_iovlen = 1};
  }
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  for (unsigned at = 0; at < count; at++) {
    lines[at].fd = connected(&server);
    watch(epoll, EPOLL_CTL_ADD, lines[at].fd, EPOLLIN, &lines[at]);
    push(&lines[at], 1);
    struct epoll_event event;
    if (epoll_wait(epoll, &event, 1, 5000) < 1) fail("no answer");
    pull(&lines[at]);
  }
  memset(histogram, 0, sizeof histogram);
  recorded = done = 0;
  ready();
  uint64_t start = now(), until = start + length;
  for (unsigned at = 0; at < count; at++) push(&lines[at], window);
  for (int over = 0; !over || unanswered;) {
    struct epoll_event events[64];
    int n = epoll_wait(epoll, events, 64, 20);
    uint64_t time = now();
    over = time >= until;
    for (int at = 0; at < n; at++) {
      struct line *l = events[at].data.ptr;
      unsigned came = pull(l);
      if (!over && came) push(l, came);
    }
    unanswered = 0;
    for (unsigned at = 0; n < 1 && at < count; at++)
      if (lines[at].unanswered && time - lines[at].last > LOSS_TIMEOUT) {
        lost += lines[at].unanswered;
        lines[at].unanswered = 0;
        if (!over) push(&lines[at], window);
      }
    for (unsigned at = 0; over && at < count; at++) unanswered += lines[at].unanswered;
  }
  report(done, now() - start, lost);
  return 0;
}
