/* NFQUEUE as the examples of libnetfilter_queue have it: one recv a packet, one verdict a packet, every packet accepted.
 *
 * usage: textbook QUEUE COPY_RANGE QUEUE_LENGTH
 * Prints "ready" once the queue is bound; ends on SIGTERM. Build with -lnetfilter_queue.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

static int accept_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *packet, void *unused) {
    struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(packet);
    (void)message, (void)unused;
    return nfq_set_verdict(queue, header ? ntohl(header->packet_id) : 0, NF_ACCEPT, 0, NULL);
}

int main(int argc, char **argv) {
    static char buffer[1 << 17] __attribute__((aligned));
    struct nfq_handle *handle = nfq_open();
    struct nfq_q_handle *queue;
    int received;

    if (argc < 4) { fprintf(stderr, "usage: textbook QUEUE COPY_RANGE QUEUE_LENGTH\n"); return 2; }
    if (!handle || !(queue = nfq_create_queue(handle, atoi(argv[1]), accept_packet, NULL))) { perror("bind"); return 1; }
    nfq_set_mode(queue, NFQNL_COPY_PACKET, atoi(argv[2]));
    nfq_set_queue_maxlen(queue, atoi(argv[3]));
    nfnl_rcvbufsiz(nfq_nfnlh(handle), 64 << 20);
    printf("ready\n");
    fflush(stdout);
    while ((received = recv(nfq_fd(handle), buffer, sizeof buffer, 0)) >= 0 || errno == ENOBUFS || errno == EINTR)
        if (received > 0)
            nfq_handle_packet(handle, buffer, received);
    perror("recv");
    return 1;
}
