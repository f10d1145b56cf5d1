/* A server that takes uploads and keeps nothing: the benchmark's other end, cheaper than any client.
 *
 *   sink PLAIN_PORT TLS_PORT CERTIFICATE KEY [SERVER_SECONDS] [ADDRESS]
 *
 * Ports of 0 are chosen by the kernel; both are printed on one line. One thread a connection. The head of each
 * request's body is read as the API's server would (is it the final chunk?), the rest is discarded: on a plain
 * connection inside the kernel (MSG_TRUNC), over TLS after it was decrypted. SERVER_SECONDS is how long each
 * answer to a POST takes. GET /_stats on the plain port gives the figures since the last such call, as JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 64 * 1024, DISCARD_BYTES = 256 * 1024 };

static SSL_CTX *tls_context;
static double server_seconds;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    long requests, connections, handshakes, batches;
    long long bytes;
    double first_request, last_answer, cpu_at_reset;
    int under_way, most_at_once;
} seen;
static atomic_long batches_ever;

typedef struct {
    int fd;
    SSL *ssl;
    char *buffer; /* HEAD_BYTES: a request's head, and what came with it */
    size_t have;
    char *waste; /* DISCARD_BYTES */
} Connection;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static ssize_t receive(Connection *c, void *into, size_t most) {
    if (c->ssl) {
        int got = SSL_read(c->ssl, into, (int)most);
        return got > 0 ? got : -1;
    }
    ssize_t got = recv(c->fd, into, most, 0);
    return got > 0 ? got : -1;
}

static ssize_t discard(Connection *c, size_t most) {
    size_t some = most < DISCARD_BYTES ? most : DISCARD_BYTES;
    if (c->ssl) {
        int got = SSL_read(c->ssl, c->waste, (int)some);
        return got > 0 ? got : -1;
    }
    ssize_t got = recv(c->fd, NULL, most, MSG_TRUNC);
    return got > 0 ? got : -1;
}

static int send_all(Connection *c, const char *text, size_t length) {
    if (c->ssl) return SSL_write(c->ssl, text, (int)length) == (int)length ? 0 : -1;
    while (length) {
        ssize_t sent = send(c->fd, text, length, MSG_NOSIGNAL);
        if (sent <= 0) return -1;
        text += sent;
        length -= sent;
    }
    return 0;
}

static int answer(Connection *c, int status, const char *body) {
    char text[2048];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", status,
                          strlen(body), body);
    return send_all(c, text, length);
}

static int answer_stats(Connection *c) {
    char body[512];
    pthread_mutex_lock(&lock);
    double used = cpu();
    snprintf(body, sizeof body,
             "{\"requests\": %ld, \"connections\": %ld, \"handshakes\": %ld, \"batches\": %ld, \"bytes\": %lld, "
             "\"seconds\": %.6f, \"first_request\": %.6f, \"last_answer\": %.6f, \"cpu\": %.6f, \"most_at_once\": %d}",
             seen.requests, seen.connections, seen.handshakes, seen.batches, seen.bytes,
             seen.last_answer - seen.first_request, seen.first_request, seen.last_answer, used - seen.cpu_at_reset,
             seen.most_at_once);
    int under_way = seen.under_way;
    memset(&seen, 0, sizeof seen);
    seen.cpu_at_reset = used;
    seen.under_way = under_way;
    pthread_mutex_unlock(&lock);
    return answer(c, 200, body);
}

static char *header(char *head, const char *name) {
    char *found = strcasestr(head, name);
    return found ? found + strlen(name) : NULL;
}

/* One request; 0 when another may follow on the connection. */
static int serve(Connection *c) {
    char *end;
    c->buffer[c->have] = 0;
    while (!(end = strstr(c->buffer, "\r\n\r\n"))) {
        if (c->have >= HEAD_BYTES - 1) return -1;
        ssize_t got = receive(c, c->buffer + c->have, HEAD_BYTES - 1 - c->have);
        if (got < 0) return -1;
        c->have += got;
        c->buffer[c->have] = 0;
    }
    size_t head = end + 4 - c->buffer;
    end[2] = 0;
    double began = now();
    int is_post = !strncmp(c->buffer, "POST ", 5);
    if (!is_post && strstr(c->buffer, "/_stats ")) {
        c->have = 0;
        return answer_stats(c);
    }
    int is_direct = is_post && strstr(c->buffer, "/batches/upload ") != NULL;
    char *value = header(c->buffer, "\r\nContent-Length:");
    long long length = value ? atoll(value) : 0;
    if (is_post && !value) return -1;
    if (header(c->buffer, "\r\nExpect: 100") && send_all(c, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return -1;
    if (is_post) {
        pthread_mutex_lock(&lock);
        if (!seen.first_request) seen.first_request = began;
        if (++seen.under_way > seen.most_at_once) seen.most_at_once = seen.under_way;
        pthread_mutex_unlock(&lock);
    }
    /* the fields stand in the first bytes of the body */
    size_t body = c->have - head;
    long long left = length - (long long)body;
    while (left > 0 && body < 8192 && head + body < HEAD_BYTES - 1) {
        size_t most = HEAD_BYTES - 1 - head - body;
        ssize_t got = receive(c, c->buffer + head + body, (long long)most < left ? most : (size_t)left);
        if (got < 0) return -1;
        body += got;
        left -= got;
    }
    c->buffer[head + body] = 0;
    char *final = memmem(c->buffer + head, body, "name=\"is_final_chunk\"", 21);
    char *said = final ? memmem(final, c->buffer + head + body - final, "\r\n\r\n", 4) : NULL;
    int makes_batch = is_direct || (said && !strncmp(said + 4, "true", 4));
    while (left > 0) {
        ssize_t got = discard(c, left);
        if (got < 0) return -1;
        left -= got;
    }
    c->have = 0;
    if (!is_post) return answer(c, 200, "{}");
    if (server_seconds > 0) usleep((useconds_t)(server_seconds * 1e6));
    char text[128];
    if (makes_batch)
        snprintf(text, sizeof text, "{\"upload_id\": \"u\", \"batch_id\": \"b-%ld\"}", atomic_fetch_add(&batches_ever, 1));
    else
        snprintf(text, sizeof text, "{\"upload_id\": \"u\"}");
    pthread_mutex_lock(&lock);
    seen.requests++;
    seen.batches += makes_batch;
    seen.bytes += length;
    seen.under_way--;
    seen.last_answer = now();
    pthread_mutex_unlock(&lock);
    return answer(c, 200, text);
}

static void *converse(void *argument) {
    Connection *c = argument;
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->buffer = malloc(HEAD_BYTES);
    c->waste = malloc(DISCARD_BYTES);
    pthread_mutex_lock(&lock);
    seen.connections++;
    pthread_mutex_unlock(&lock);
    if (!c->ssl || SSL_accept(c->ssl) == 1) {
        if (c->ssl) {
            pthread_mutex_lock(&lock);
            seen.handshakes++;
            pthread_mutex_unlock(&lock);
        }
        while (serve(c) == 0) {
        }
    }
    if (c->ssl) SSL_free(c->ssl);
    close(c->fd);
    free(c->buffer);
    free(c->waste);
    free(c);
    return NULL;
}

static int listen_on(const char *address, const char *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, address, &at.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 128)) {
        perror("sink");
        exit(1);
    }
    return fd;
}

static int port_of(int fd) {
    struct sockaddr_in at;
    socklen_t length = sizeof at;
    getsockname(fd, (struct sockaddr *)&at, &length);
    return ntohs(at.sin_port);
}

typedef struct {
    int fd, tls;
} Listener;

static void *welcome(void *argument) {
    Listener *listener = argument;
    for (;;) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        Connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        if (listener->tls) {
            c->ssl = SSL_new(tls_context);
            SSL_set_fd(c->ssl, fd);
        }
        pthread_t thread;
        pthread_create(&thread, NULL, converse, c);
        pthread_detach(thread);
    }
    return NULL;
}

int main(int count, char **words) {
    if (count < 5) return 2;
    signal(SIGPIPE, SIG_IGN);
    server_seconds = count > 5 ? atof(words[5]) : 0;
    const char *address = count > 6 ? words[6] : "127.0.0.1";
    tls_context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_read_ahead(tls_context, 1);
    SSL_CTX_set_default_read_buffer_len(tls_context, 256 * 1024);
    if (SSL_CTX_use_certificate_chain_file(tls_context, words[3]) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_context, words[4], SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "sink: the certificate can't be used\n");
        return 1;
    }
    static Listener plain, tls;
    plain.fd = listen_on(address, words[1]);
    tls.fd = listen_on(address, words[2]);
    tls.tls = 1;
    printf("%d %d\n", port_of(plain.fd), port_of(tls.fd));
    fflush(stdout);
    pthread_t thread;
    pthread_create(&thread, NULL, welcome, &tls);
    welcome(&plain);
    return 0;
}
