/* A bounded UDP sender and a counting receiver for packets/s benches.
 *
 * usage: udp_flood send ADDRESS PORT PAYLOAD_BYTES SECONDS PACKETS_PER_SECOND(0: as fast as it goes) SOURCE_PORTS
 *        udp_flood count ADDRESS PORT SECONDS
 * `send` uses sendmmsg of 64 over SOURCE_PORTS sockets in turn and prints the packets that were sent; `count` prints the
 * packets that arrived. Both end by themselves after SECONDS; `count` ends also on SIGTERM.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, MAX_SOCKETS = 256, MAX_PAYLOAD = 1472 };

static volatile sig_atomic_t stopped;

static void stop(int signal_number) { (void)signal_number; stopped = 1; }

static void fail(const char *doing) { perror(doing); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int udp_socket(const char *address, int port, struct sockaddr_storage *to, socklen_t *length) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)to;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
    int fd;
    memset(to, 0, sizeof *to);
    if (strchr(address, ':')) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        *length = sizeof *v6;
        if (inet_pton(AF_INET6, address, &v6->sin6_addr) != 1) { fprintf(stderr, "bad address\n"); exit(2); }
    } else {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        *length = sizeof *v4;
        if (inet_pton(AF_INET, address, &v4->sin_addr) != 1) { fprintf(stderr, "bad address\n"); exit(2); }
    }
    fd = socket(to->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    return fd;
}

static int flood(char **argv) {
    static char payload[MAX_PAYLOAD];
    static struct mmsghdr messages[BATCH];
    struct iovec vector = {.iov_base = payload};
    struct sockaddr_storage to;
    socklen_t length;
    int sockets[MAX_SOCKETS], count = atoi(argv[5]);
    double seconds = atof(argv[3]), rate = atof(argv[4]), begin;
    unsigned long sent = 0;

    vector.iov_len = atoi(argv[2]);
    if (vector.iov_len > MAX_PAYLOAD || count < 1 || count > MAX_SOCKETS || seconds > 600) return 2;
    for (int i = 0; i < count; i++) {
        sockets[i] = udp_socket(argv[0], atoi(argv[1]), &to, &length);
        if (connect(sockets[i], (struct sockaddr *)&to, length)) fail("connect");
    }
    for (int i = 0; i < BATCH; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
    begin = now();
    for (unsigned turn = 0; !stopped; turn++) {
        double passed = now() - begin;
        if (passed >= seconds) break;
        if (rate > 0 && sent > passed * rate) { usleep(100); continue; }
        int n = sendmmsg(sockets[turn % count], messages, BATCH, 0);
        if (n > 0) sent += n;
        else if (errno != ENOBUFS && errno != ECONNREFUSED && errno != EAGAIN && errno != EPERM) fail("sendmmsg");
    }
    printf("sent %lu seconds %.6f\n", sent, now() - begin);
    return 0;
}

static int count_arrivals(char **argv) {
    static char payloads[BATCH][64];
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    struct sockaddr_storage at;
    socklen_t length;
    struct timeval tick = {.tv_usec = 100000};
    int buffer = 32 << 20, fd = udp_socket(argv[0], atoi(argv[1]), &at, &length);
    double end = now() + atof(argv[2]);
    unsigned long packets = 0;

    if (bind(fd, (struct sockaddr *)&at, length)) fail("bind");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){.iov_base = payloads[i], .iov_len = sizeof payloads[i]};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    printf("ready\n");
    fflush(stdout);
    while (!stopped && now() < end) {
        int n = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (n > 0) packets += n;
    }
    printf("packets %lu\n", packets);
    return 0;
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    if (argc == 8 && !strcmp(argv[1], "send")) return flood(argv + 2);
    if (argc == 5 && !strcmp(argv[1], "count")) return count_arrivals(argv + 2);
    fprintf(stderr, "usage: udp_flood send ADDRESS PORT BYTES SECONDS RATE SOURCE_PORTS | count ADDRESS PORT SECONDS\n");
    return 2;
}
