/* How long UDP packets take from one link of a router to another, by the kernel's own time stamps.
 *
 * usage: delay measure IN OUT PORT SECONDS | delay pace ADDRESS PORT PACKETS_PER_SECOND SECONDS
 * `pace` sends packets of 22 bytes one by one at an even pace; the first 4 bytes are a number, 0 for half a second of warming up.
 * It prints how many of the numbered ones it sent later than a tenth of a millisecond after their time. `measure` takes those packets
 * on both links (IN: what arrives, OUT: what leaves) and prints percentiles in microseconds of the time between, the packets seen
 * on both, and those that were seen on the first alone; warming up does not count. Prints "ready" once it listens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 22, BATCH = 64, HEAD = 128, WARM_NS = 500000000, LATE_NS = 100000 };

static int64_t *came;
static double *taken;
static int port;

static void fail(const char *doing) { perror(doing); exit(1); }

static int64_t now_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Only UDP over IPv4 to our port reaches the socket, so that a loaded meter does not slow down what it measures. */
static int link_open(const char *name) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 9), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 14 + 22), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, HEAD), BPF_STMT(BPF_RET | BPF_K, 0)};
    struct sock_fprog program = {.len = 6, .filter = code};
    struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(name)};
    int on = 1, buffer = (1 << 30) - 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) fail("SO_TIMESTAMPNS");
    if (bind(fd, (struct sockaddr *)&at, sizeof at)) fail(name);
    return fd;
}

/* The packets that wait on a link: f(number, time stamp) for each; `outgoing` says which direction counts. */
static void link_read(int fd, int outgoing, void (*take)(uint32_t, int64_t)) {
    static unsigned char heads[BATCH][HEAD], control[BATCH][64];
    static struct sockaddr_ll from[BATCH];
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    int n;
    do {
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){heads[i], HEAD};
            messages[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &vectors[i],
                                                  .msg_iovlen = 1, .msg_control = control[i], .msg_controllen = sizeof control[i]};
        }
        n = recvmmsg(fd, messages, BATCH, 0, NULL);
        for (int i = 0; i < n; i++) {
            struct cmsghdr *c = CMSG_FIRSTHDR(&messages[i].msg_hdr);
            struct timespec t;
            uint32_t number;
            if ((from[i].sll_pkttype == PACKET_OUTGOING) != outgoing || !c || messages[i].msg_len < 46) continue;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            memcpy(&number, heads[i] + 42, 4);
            if (number && number < MOST) take(number, t.tv_sec * 1000000000LL + t.tv_nsec);
        }
    } while (n == BATCH);
}

static void arrives(uint32_t number, int64_t when) { came[number] = when; }

static void leaves(uint32_t number, int64_t when) { if (came[number]) taken[number] = (when - came[number]) / 1e3; }

static int ascending(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

static int measure(char **argv) {
    int links[2];
    long seen = 0, first = 0, i;
    port = atoi(argv[2]);
    came = calloc(MOST, sizeof *came);
    taken = calloc(MOST, sizeof *taken);
    for (i = 0; i < 2; i++) links[i] = link_open(argv[i]);
    printf("ready\n");
    fflush(stdout);
    int64_t end = now_ns(CLOCK_MONOTONIC) + (int64_t)(atof(argv[3]) * 1e9);
    while (now_ns(CLOCK_MONOTONIC) < end)
        usleep(10000);
    link_read(links[0], 0, arrives);        /* stamps are the kernel's: reading at the end measures no worse, and disturbs nobody */
    link_read(links[1], 1, leaves);
    for (i = 0; i < MOST; i++) {
        first += came[i] != 0;
        if (taken[i] != 0) taken[seen++] = taken[i];
    }
    qsort(taken, seen, sizeof *taken, ascending);
    if (seen) printf("p50 %.1f p99 %.1f p99.9 %.1f most %.1f ", taken[seen / 2], taken[(long)(seen * 0.99)], taken[(long)(seen * 0.999)],
                     taken[seen - 1]);
    printf("packets %ld lost %ld\n", seen, first - seen);
    return 0;
}

static int pace(char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    char payload[22] = {0};
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    inet_pton(AF_INET, argv[0], &to.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
    int64_t due = now_ns(CLOCK_MONOTONIC), warm = due + WARM_NS, end = warm + (int64_t)(seconds * 1e9), now;
    long late = 0;
    for (uint32_t number = 0; due < end && number < MOST; number += due >= warm) {
        while ((now = now_ns(CLOCK_MONOTONIC)) < due)
            continue;
        late += number && now - due > LATE_NS;
        due = now + (int64_t)(1e9 / rate);        /* a sender that was held up does not catch up in a burst */
        memcpy(payload, &number, 4);
        if (send(fd, payload, sizeof payload, 0) < 0 && errno != ENOBUFS && errno != ECONNREFUSED && errno != EPERM) fail("send");
    }
    printf("late %ld\n", late);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 6 && !strcmp(argv[1], "measure")) return measure(argv + 2);
    if (argc == 6 && !strcmp(argv[1], "pace")) return pace(argv + 2);
    fprintf(stderr, "usage: delay measure IN OUT PORT SECONDS | pace ADDRESS PORT PACKETS_PER_SECOND SECONDS\n");
    return 2;
}
