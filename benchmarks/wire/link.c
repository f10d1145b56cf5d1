/* A long line between two network namespaces, in user space: a rate, a delay, a cap for each connection.
 *
 *   link TUN_A TUN_B RATE_BITS DELAY_MS CONNECTION_BITS
 *
 * Makes two TUN devices, says "ready", and passes packets between them until it is ended; whoever starts it moves
 * the devices into namespaces and gives them addresses. Both ways have the rate (bits a second, of IP packets) and
 * DELAY_MS each; CONNECTION_BITS of 0 is no cap. What would wait longer than QUEUE_SECONDS is dropped, as a router
 * does. The devices hand over whole segments (TSO), each counted as the packets that it would be on the wire.
 * See the kernel's Documentation/networking/tuntap.rst, and linux/virtio_net.h.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 16, LARGEST = 66000, FLOWS = 1024 };
static const double QUEUE_SECONDS = 0.05;

typedef struct {
    double due;
    uint64_t order;
    int length, on_the_line; /* 0: still held back by the cap of its connection */
    double size;
    unsigned char *bytes;
} Packet;

typedef struct {
    int from, to;
    double free_at, flow_free_at[FLOWS];
    Packet *heap[MOST];
    int waiting;
} Way;

static double rate, delay, flow_rate;
static uint64_t arrivals;
static unsigned long dropped;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int before(const Packet *a, const Packet *b) {
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void push(Way *way, Packet *packet) {
    int at = way->waiting++;
    while (at && before(packet, way->heap[(at - 1) / 2])) {
        way->heap[at] = way->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    way->heap[at] = packet;
}

static Packet *pop(Way *way) {
    Packet *first = way->heap[0], *last = way->heap[--way->waiting];
    int at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= way->waiting) break;
        if (child + 1 < way->waiting && before(way->heap[child + 1], way->heap[child])) child++;
        if (!before(way->heap[child], last)) break;
        way->heap[at] = way->heap[child];
        at = child;
    }
    way->heap[at] = last;
    return first;
}

/* Bytes on the wire: each packet of a large segment has headers of its own. */
static double wire_bytes(const unsigned char *packet, int length) {
    const struct virtio_net_hdr *header = (const void *)packet;
    int bytes = length - (int)sizeof *header;
    if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE || !header->gso_size) return bytes;
    int payload = bytes - header->hdr_len;
    int packets = (payload + header->gso_size - 1) / header->gso_size;
    return bytes + (double)(packets - 1) * header->hdr_len;
}

/* The connection's number by its ports; IPv4 without options is what comes here. */
static int flow_of(const unsigned char *packet, int length) {
    const unsigned char *ip = packet + sizeof(struct virtio_net_hdr);
    if (length < (int)sizeof(struct virtio_net_hdr) + 24) return 0;
    return (ip[20] << 8 | ip[21]) * 31 + (ip[22] << 8 | ip[23]) & (FLOWS - 1);
}

static double later(double a, double b) { return a > b ? a : b; }

static void drop(Packet *packet) {
    dropped++;
    free(packet->bytes);
    free(packet);
}

/* From the cap of its connection to the line that all share, at its time: no connection holds up another. */
static void enter(Way *way, Packet *packet) {
    double at = packet->due;
    if (way->waiting == MOST || way->free_at - at > QUEUE_SECONDS) {
        drop(packet);
        return;
    }
    way->free_at = later(at, way->free_at) + packet->size / rate;
    packet->due = way->free_at + delay;
    packet->on_the_line = 1;
    push(way, packet);
}

static void take(Way *way, const unsigned char *bytes, int length) {
    Packet *packet = calloc(1, sizeof *packet);
    double *flow_free_at = &way->flow_free_at[flow_of(bytes, length)];
    packet->due = now();
    packet->size = wire_bytes(bytes, length);
    packet->order = arrivals++;
    packet->length = length;
    packet->bytes = malloc(length);
    memcpy(packet->bytes, bytes, length);
    if (flow_rate <= 0) {
        enter(way, packet);
    } else if (way->waiting == MOST || *flow_free_at - packet->due > QUEUE_SECONDS) {
        drop(packet);
    } else {
        packet->due = *flow_free_at = later(packet->due, *flow_free_at) + packet->size / flow_rate;
        push(way, packet);
    }
}

static void deliver(Way *way) {
    while (way->waiting && way->heap[0]->due <= now()) {
        Packet *packet = pop(way);
        if (!packet->on_the_line) {
            enter(way, packet);
            continue;
        }
        if (write(way->to, packet->bytes, packet->length) < 0) dropped++;
        free(packet->bytes);
        free(packet);
    }
}

static int open_tun(const char *name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) || ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4)) {
        perror("link: /dev/net/tun");
        exit(1);
    }
    return fd;
}

int main(int count, char **words) {
    if (count != 6) return 2;
    static Way there, back;
    there.from = back.to = open_tun(words[1]);
    there.to = back.from = open_tun(words[2]);
    rate = atof(words[3]) / 8;
    delay = atof(words[4]) / 1000;
    flow_rate = atof(words[5]) / 8;
    printf("ready\n");
    fflush(stdout);
    static unsigned char bytes[LARGEST];
    for (;;) {
        double due = 1e9 + now();
        if (there.waiting) due = there.heap[0]->due;
        if (back.waiting && back.heap[0]->due < due) due = back.heap[0]->due;
        double left = later(0, due - now());
        struct timespec pause = {.tv_sec = (time_t)left, .tv_nsec = (long)((left - (time_t)left) * 1e9)};
        struct pollfd ready[2] = {{.fd = there.from, .events = POLLIN}, {.fd = back.from, .events = POLLIN}};
        ppoll(ready, 2, &pause, NULL);
        for (int turn = 0; turn < 64; turn++) {
            ssize_t got = read(there.from, bytes, sizeof bytes);
            if (got > 0) take(&there, bytes, (int)got);
            ssize_t other = read(back.from, bytes, sizeof bytes);
            if (other > 0) take(&back, bytes, (int)other);
            if (got <= 0 && other <= 0) break;
        }
        deliver(&there);
        deliver(&back);
    }
}
