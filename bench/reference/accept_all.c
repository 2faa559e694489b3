/* The practical limit of NFQUEUE: accept every packet, batched both ways, and look at nothing.
 *
 * recvmmsg of up to 64 messages, one ordinary verdict message a packet, all verdicts of a batch in one send. This is
 * what every figure of a real filter is divided by.
 *
 * usage: accept_all QUEUE COPY_RANGE QUEUE_LENGTH GSO(0|1) [BATCH_VERDICTS(0|1)]
 * Prints "ready" once the queue is bound; on SIGTERM prints packets, receives, lost (ENOBUFS) and errors, and ends.
 * With BATCH_VERDICTS 1 a batch is settled by one NFQNL_MSG_VERDICT_BATCH message instead.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { BATCH = 64, OVERHEAD = 256, VERDICT_SIZE = 32 };

static volatile sig_atomic_t stopped;
static int netlink;
static uint16_t queue_number;

static void stop(int signal_number) { (void)signal_number; stopped = 1; }

static void fail(const char *doing) { perror(doing); exit(1); }

static char *message_begin(char *at, int type, int flags, uint32_t length) {
    struct nlmsghdr *header = (struct nlmsghdr *)at;
    struct nfgenmsg *general = NLMSG_DATA(header);
    memset(at, 0, NLMSG_SPACE(sizeof *general));
    header->nlmsg_len = length;
    header->nlmsg_type = (NFNL_SUBSYS_QUEUE << 8) | type;
    header->nlmsg_flags = NLM_F_REQUEST | flags;
    general->res_id = htons(queue_number);
    return at + NLMSG_SPACE(sizeof *general);
}

static char *attribute(char *at, int type, const void *data, size_t length) {
    struct nlattr *attr = (struct nlattr *)at;
    attr->nla_len = NLA_HDRLEN + length;
    attr->nla_type = type;
    memcpy(at + NLA_HDRLEN, data, length);
    return at + NLA_ALIGN(attr->nla_len);
}

static void request(char *message, char *end, const char *doing) {
    char answer[512];
    ((struct nlmsghdr *)message)->nlmsg_len = end - message;
    if (send(netlink, message, end - message, 0) < 0) fail(doing);
    if (recv(netlink, answer, sizeof answer, 0) < (ssize_t)(NLMSG_HDRLEN + sizeof(int))) fail(doing);
    errno = -((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)answer))->error;
    if (errno) fail(doing);
}

static void queue_open(uint32_t copy_range, uint32_t length, int gso) {
    char message[256], *end;
    int buffer = 64 << 20;
    struct timeval tick = {.tv_usec = 100000};
    struct nfqnl_msg_config_cmd bind_queue = {.command = NFQNL_CFG_CMD_BIND};
    struct nfqnl_msg_config_params params = {.copy_range = htonl(copy_range), .copy_mode = NFQNL_COPY_PACKET};
    uint32_t maximum = htonl(length), flags = htonl(gso ? NFQA_CFG_F_GSO : 0), mask = htonl(NFQA_CFG_F_GSO);

    netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (netlink < 0) fail("socket");
    end = message_begin(message, NFQNL_MSG_CONFIG, NLM_F_ACK, 0);
    end = attribute(end, NFQA_CFG_CMD, &bind_queue, sizeof bind_queue);
    request(message, end, "bind");
    end = message_begin(message, NFQNL_MSG_CONFIG, NLM_F_ACK, 0);
    end = attribute(end, NFQA_CFG_PARAMS, &params, sizeof params);
    end = attribute(end, NFQA_CFG_QUEUE_MAXLEN, &maximum, sizeof maximum);
    end = attribute(end, NFQA_CFG_FLAGS, &flags, sizeof flags);
    end = attribute(end, NFQA_CFG_MASK, &mask, sizeof mask);
    request(message, end, "configure");
    if (setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer)) fail("SO_RCVBUFFORCE");
    setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
}

static uint32_t packet_id(const char *message, size_t length) {
    const struct nlmsghdr *header = (const struct nlmsghdr *)message;
    const struct nlattr *first = (const struct nlattr *)(message + NLMSG_SPACE(sizeof(struct nfgenmsg)));
    if (length < NLMSG_SPACE(sizeof(struct nfgenmsg)) + NLA_HDRLEN + 4) return 0;
    if (header->nlmsg_type != ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET)) return 0;
    return first->nla_type == NFQA_PACKET_HDR ? *(const uint32_t *)(first + 1) : 0;
}

static char *verdict(char *at, int type, uint32_t id_be) {
    struct nfqnl_msg_verdict_hdr accept = {.verdict = htonl(NF_ACCEPT), .id = id_be};
    return attribute(message_begin(at, type, 0, VERDICT_SIZE), NFQA_VERDICT_HDR, &accept, sizeof accept);
}

int main(int argc, char **argv) {
    static char out[BATCH * VERDICT_SIZE];
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    unsigned long packets = 0, receives = 0, lost = 0, errors = 0;
    struct sigaction action = {.sa_handler = stop};

    if (argc < 5) { fprintf(stderr, "usage: accept_all QUEUE COPY_RANGE QUEUE_LENGTH GSO [BATCH_VERDICTS]\n"); return 2; }
    queue_number = atoi(argv[1]);
    size_t size = (atoi(argv[2]) + OVERHEAD + 63) & ~63UL;
    int batched = argc > 5 && atoi(argv[5]);
    char *buffers = calloc(BATCH, size);
    if (!buffers) fail("calloc");
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){.iov_base = buffers + i * size, .iov_len = size};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    sigaction(SIGTERM, &action, NULL);
    queue_open(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
    printf("ready\n");
    fflush(stdout);
    while (!stopped) {
        int n = recvmmsg(netlink, messages, BATCH, MSG_WAITFORONE, NULL);
        char *end = out;
        uint32_t last = 0;
        if (n < 0) { lost += errno == ENOBUFS; continue; }
        receives++;
        for (int i = 0; i < n; i++) {
            uint32_t id = packet_id(buffers + i * size, messages[i].msg_len);
            if (!id) { errors++; continue; }
            packets++;
            last = id;
            if (!batched) end = verdict(end, NFQNL_MSG_VERDICT, id);
        }
        if (batched && last) end = verdict(end, NFQNL_MSG_VERDICT_BATCH, last);
        if (end > out && send(netlink, out, end - out, 0) < 0) errors++;
    }
    printf("packets %lu receives %lu lost %lu errors %lu\n", packets, receives, lost, errors);
    return 0;
}
