/* load - WebSocket clients by the thousand in one thread, to measure a server on this machine.
 *
 *     cc -O2 -o load load.c -lssl -lcrypto
 *     load calls -p PORT [-n CLIENTS] [-d IN_FLIGHT] [-t SECONDS] [-w WARM_UP]     calls a second, and their latency
 *     load fan   -p PORT -n CLIENTS -b TRIGGER -k MESSAGES [-r ROUNDS]             messages a second to all clients
 *     load churn -p PORT [-q AT_ONCE] [-t SECONDS] [-w WARM_UP]                    connect, call, close
 *     load hold  -p PORT -n CLIENTS                                                keeps them open until stdin ends
 *     load listen -p PORT -n CLIENTS -g TEXT [-t SECONDS] [-w WARM_UP]             events, and how late they are
 *
 *     -m TEXT     the call                          -M SIZE   a call `echo` of that many bytes in place of it
 *     -g TEXT     first message of each client; one answer is awaited before the measurement
 *     -s N:TEXT   so many clients of `calls` send this one instead, and are counted apart
 *     -R RATE     `calls` are made one after the other, so many a second, each by the next client that has its answer;
 *                 without it each client calls again at once when it has its answer
 *     -H LINE     another header line               -z        offer permessage-deflate
 *     -T          over TLS                          -P PID    CPU time of this process is reported
 *
 * `listen` subscribes by TEXT to events that are the time of CLOCK_MONOTONIC in seconds.
 * `fan` has one client more, which sends TRIGGER; a round ends when each of the others has got MESSAGES.
 * The outcome is one line of JSON. The program gives up after 60 seconds without an end (hold: 300).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM (1 << 20)     /* bytes read at once */
#define COPIES 64          /* of a small message that one write may send */
#define SOURCES 32         /* addresses 127.0.0.1 and up that clients come from, for their ports' sake */

enum phase { NONE, CONNECTING, SECURING, UPGRADING, TALKING, LEAVING };

struct words {             /* a message, masked and framed, several times in a row */
    unsigned char *bytes;
    size_t size;
    unsigned copies;
};

struct client {
    int fd;
    SSL *ssl;
    enum phase phase;
    bool slow, waits_to_write, idle;
    unsigned char *rest;           /* the beginning of a frame whose end has not arrived */
    size_t rest_size;
    uint64_t left;                 /* bytes of a long frame still to come */
    const struct words *words;
    unsigned due;                  /* copies of them that are to be sent */
    size_t offset;                 /* bytes of the first one that have gone */
    unsigned char control[136];    /* a pong or close that is to be sent after that */
    size_t control_size;
    double *sent_at;               /* a ring of IN_FLIGHT times */
    unsigned oldest;
    uint64_t messages;
    double born;
};

struct samples { float *values; size_t count, room; };

static const char *mode, *header = "", *trigger_text, *greeting_text, *slow_text;
static const char *call_text = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"getblockcount\",\"params\":[]}";
static int port, wanted = 1, in_flight = 1, at_once = 4, slow_wanted, rounds = 10;
static long echo_size;
static unsigned long per_round = 1;
static double seconds = 2, warm_up = 0.5, rate;
static bool tls, deflate;
static clockid_t server_clock;
static bool has_server_clock;

static int poller;
static SSL_CTX *context;
static struct client *clients;
static int total_clients, opening, open_now;
static struct words call, greeting, slow_call, trigger;
static struct samples fast_times, slow_times;
static bool listening;
static uint64_t answered, slow_answered, arrived, wrong, failed;
static const char *first_failure = "";
static bool measuring;
static double now, give_up;
static unsigned char *room;

static double clock_of(clockid_t id)
{
    struct timespec time;
    clock_gettime(id, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void stop_with(const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    printf("{\"error\": \"");
    vprintf(format, rest);
    printf("\"}\n");
    exit(1);
}

static void keep(struct samples *samples, double value)
{
    if (samples->count == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 1 << 16;
        samples->values = realloc(samples->values, samples->room * sizeof(float));
    }
    samples->values[samples->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_times(const char *prefix, struct samples *samples)
{
    if (!samples->count) return;
    qsort(samples->values, samples->count, sizeof(float), by_value);
    printf(", \"%sp50_us\": %.1f, \"%sp99_us\": %.1f, \"%smax_us\": %.1f", prefix, samples->values[samples->count / 2] * 1e6,
           prefix, samples->values[samples->count * 99 / 100] * 1e6, prefix, samples->values[samples->count - 1] * 1e6);
}

/* Frames */

static size_t put_frame(unsigned char *to, int opcode, const char *text, size_t size)
{
    static const unsigned char key[4] = {0x21, 0x43, 0x65, 0x87};
    size_t at = 0;
    to[at++] = 0x80 | opcode;
    if (size < 126) {
        to[at++] = 0x80 | size;
    } else {
        int bytes = size < 65536 ? 2 : 8;
        to[at++] = 0x80 | (bytes == 2 ? 126 : 127);
        while (bytes--) to[at++] = size >> (8 * bytes);
    }
    memcpy(to + at, key, 4);
    at += 4;
    for (size_t i = 0; i < size; i++) to[at + i] = text[i] ^ key[i % 4];
    return at + size;
}

static struct words make_words(const char *text)
{
    size_t size = strlen(text);
    struct words words = {NULL, 0, size > 4096 ? 1 : COPIES};
    words.bytes = malloc((size + 14) * words.copies);
    for (unsigned i = 0; i < words.copies; i++) words.size = put_frame(words.bytes + i * words.size, 1, text, size);
    return words;
}

/* Reading and writing, plain or TLS: the bytes moved, -1 to be tried again later, 0 for an end */

static ssize_t receive(struct client *client, unsigned char *to, size_t size)
{
    ssize_t got;
    if (client->ssl) {
        got = SSL_read(client->ssl, to, size);
        if (got > 0) return got;
        int reason = SSL_get_error(client->ssl, got);
        return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE ? -1 : 0;
    }
    got = read(client->fd, to, size);
    return got < 0 && errno != EAGAIN ? 0 : got;
}

static ssize_t transmit(struct client *client, const unsigned char *from, size_t size)
{
    ssize_t done;
    if (client->ssl) {
        done = SSL_write(client->ssl, from, size);
        return done > 0 ? done : -1;
    }
    done = send(client->fd, from, size, MSG_NOSIGNAL);
    return done < 0 && errno != EAGAIN ? 0 : done;
}

static void watch(struct client *client, bool writing)
{
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = client};
    if (client->waits_to_write == writing) return;
    client->waits_to_write = writing;
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void flush(struct client *client)
{
    while (client->due) {
        unsigned copies = client->due < client->words->copies ? client->due : client->words->copies;
        size_t size = client->words->size * copies - client->offset;
        ssize_t done = transmit(client, client->words->bytes + client->offset, size);
        if (done <= 0) {
            watch(client, done < 0);
            return;
        }
        client->offset += done;
        client->due -= client->offset / client->words->size;
        client->offset %= client->words->size;
    }
    if (client->control_size && transmit(client, client->control, client->control_size) > 0) client->control_size = 0;
    watch(client, false);
}

static void say(struct client *client, const struct words *words, unsigned times)
{
    client->words = words;
    client->due += times;
    flush(client);
}

/* The life of a client */

static void forget(struct client *client)
{
    if (client->phase == NONE) return;
    if (client->phase >= TALKING) open_now--;
    else opening--;
    if (client->ssl) SSL_free(client->ssl);
    close(client->fd);
    free(client->rest);
    double *ring = client->sent_at;
    bool slow = client->slow;
    *client = (struct client){.sent_at = ring, .slow = slow};
}

static void fail(struct client *client, const char *why)
{
    if (!*first_failure) first_failure = why;
    failed++;
    if (strcmp(mode, "churn") && client->phase < TALKING) stop_with("a client could not connect: %s", why);
    forget(client);
}

static void begin(struct client *client)
{
    static unsigned turn;
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + turn++ % SOURCES)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) stop_with("socket: %s", strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &on, sizeof on);
    if (bind(client->fd, (struct sockaddr *)&from, sizeof from)) stop_with("bind: %s", strerror(errno));
    client->born = now;
    client->phase = CONNECTING;
    client->waits_to_write = true;
    opening++;
    if (connect(client->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        fail(client, strerror(errno));
        return;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
}

static void ask_for_upgrade(struct client *client)
{
    char head[4096];
    int size = snprintf(head, sizeof head,
                        "GET / HTTP/1.1\r\nHost: localhost:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s%s\r\n", port,
                        deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n" : "", header,
                        *header ? "\r\n" : "");
    client->phase = UPGRADING;
    watch(client, false);
    if (transmit(client, (unsigned char *)head, size) != size) fail(client, "the request did not go out");
}

static void on_talk(struct client *client)
{
    opening--;
    open_now++;
    client->phase = TALKING;
    if (!strcmp(mode, "churn")) say(client, &call, 1);
    else if (greeting.bytes) say(client, &greeting, 1);
}

/* The lateness of an event whose result is the time at which it was published. */
static void on_event_time(struct client *client, const unsigned char *payload, size_t size)
{
    char digits[32] = "";
    const char *found = memmem(payload, size, "\"result\":", 9);
    if (!client->messages || !measuring || !found) return; /* the first message is the answer to the subscription */
    size_t left = size - (found + 9 - (const char *)payload);
    memcpy(digits, found + 9, left < 31 ? left : 31);
    keep(&fast_times, clock_of(CLOCK_MONOTONIC) - atof(digits));
    answered++;
}

static void on_message(struct client *client, bool right)
{
    client->messages++;
    arrived++;
    if (!right) wrong++;
    if (client->phase == LEAVING) return;
    if (client->words == &call || client->words == &slow_call) {
        if (!strcmp(mode, "churn")) {
            client->control_size = put_frame(client->control, 8, "\x03\xe8", 2);
            client->phase = LEAVING;
            return;
        }
        double *stamp = &client->sent_at[client->oldest];
        client->oldest = (client->oldest + 1) % in_flight;
        if (measuring) {
            keep(client->slow ? &slow_times : &fast_times, now - *stamp);
            if (client->slow) slow_answered++;
            else answered++;
        }
        *stamp = now;
        if (rate) client->idle = true;
        else client->due++;
    }
}

/* What is whole of the bytes is dealt with; the number of those used, or -1 where the client is gone. */
static ssize_t take(struct client *client, const unsigned char *bytes, size_t size)
{
    size_t at = 0;
    while (at < size) {
        if (client->left) {
            size_t part = client->left < size - at ? client->left : size - at;
            at += part;
            client->left -= part;
            if (!client->left) on_message(client, true);
            continue;
        }
        if (size - at < 2) break;
        unsigned opcode = bytes[at] & 15, head = 2;
        uint64_t length = bytes[at + 1];
        if (!(bytes[at] & 0x80) || bytes[at] & (deflate ? 0x30 : 0x70) || length > 127) {
            fail(client, "a frame that was not expected");
            return -1;
        }
        if (length > 125) {
            head = length == 126 ? 4 : 10;
            if (size - at < head) break;
            length = 0;
            for (unsigned i = 2; i < head; i++) length = length << 8 | bytes[at + i];
        }
        if (opcode < 8 && length > ROOM / 2) {
            at += head;
            client->left = length;
            continue;
        }
        if (size - at < head + length) break;
        const unsigned char *payload = bytes + at + head;
        if (opcode == 1 || opcode == 2) {
            bool error = !(bytes[at] & 0x40) && memmem(payload, length < 200 ? length : 200, "\"error\"", 7);
            if (listening) on_event_time(client, payload, length);
            on_message(client, opcode == 1 && !error);
        } else if (opcode == 9) {
            client->control_size = put_frame(client->control, 10, (const char *)payload, length);
        } else if (opcode == 8) {
            if (client->phase == LEAVING && measuring) {
                keep(&fast_times, now - client->born);
                answered++;
            }
            if (client->phase != LEAVING) fail(client, "closed by the server");
            else forget(client);
            return -1;
        }
        at += head + length;
    }
    return at;
}

static void on_input(struct client *client)
{
    size_t have = client->rest_size, used = 0;
    memcpy(room, client->rest, have);
    ssize_t got = receive(client, room + have, ROOM - have);
    if (got < 0) return;
    if (got == 0) {
        fail(client, "the server ended the connection");
        return;
    }
    have += got;
    if (client->phase == UPGRADING) {
        unsigned char *end = memmem(room, have, "\r\n\r\n", 4);
        if (end) {
            if (memcmp(room, "HTTP/1.1 101", 12) || !memmem(room, have, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28)) {
                fail(client, "the server did not upgrade");
                return;
            }
            used = end + 4 - room;
            on_talk(client);
        }
    }
    if (client->phase >= TALKING) {
        ssize_t taken = take(client, room + used, have - used);
        if (taken < 0) return;
        used += taken;
        if (client->due || client->control_size) flush(client);
    }
    free(client->rest);
    client->rest_size = have - used;
    client->rest = client->rest_size ? malloc(client->rest_size) : NULL;
    memcpy(client->rest, room + used, client->rest_size);
}

static void secure(struct client *client)
{
    int outcome = SSL_connect(client->ssl);
    if (outcome == 1) {
        ask_for_upgrade(client);
        return;
    }
    int reason = SSL_get_error(client->ssl, outcome);
    if (reason == SSL_ERROR_WANT_READ) watch(client, false);
    else if (reason == SSL_ERROR_WANT_WRITE) watch(client, true);
    else fail(client, "the TLS handshake failed");
}

static void on_event(struct client *client, unsigned events)
{
    if (client->phase == CONNECTING) {
        int problem = 0;
        socklen_t size = sizeof problem;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem) {
            fail(client, strerror(problem));
        } else if (tls) {
            client->phase = SECURING;
            client->ssl = SSL_new(context);
            SSL_set_fd(client->ssl, client->fd);
            secure(client);
        } else {
            ask_for_upgrade(client);
        }
        return;
    }
    if (client->phase == SECURING) {
        secure(client);
        return;
    }
    if (events & EPOLLOUT) flush(client);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        do on_input(client);
        while (client->ssl && client->phase && SSL_pending(client->ssl));
    }
}

static void turn(void)
{
    struct epoll_event events[512];
    int count = epoll_wait(poller, events, 512, rate ? 0 : 100); /* with a rate it looks at the clock all the time */
    now = clock_of(CLOCK_MONOTONIC);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (client->phase) on_event(client, events[i].events);
    }
    if (now > give_up) stop_with("no end after the longest time; %d open, %d opening, %s", open_now, opening, first_failure);
}

static void open_all(void)
{
    for (int i = 0; i < total_clients;) {
        while (i < total_clients && opening < at_once) begin(&clients[i++]);
        turn();
    }
    while (open_now < total_clients) turn();
    for (bool missing = greeting.bytes; missing;) {
        turn();
        missing = false;
        for (int i = 0; i < total_clients; i++) missing |= !clients[i].messages;
    }
}

/* The modes */

static double begun, ended, client_begun, client_ended, server_begun, server_ended;

static double own_time(void) { return clock_of(CLOCK_PROCESS_CPUTIME_ID); }
static double server_time(void) { return has_server_clock ? clock_of(server_clock) : 0; }

static void start_watch(void)
{
    begun = clock_of(CLOCK_MONOTONIC);
    client_begun = own_time();
    server_begun = server_time();
}

static void stop_watch(void)
{
    ended = clock_of(CLOCK_MONOTONIC);
    client_ended = own_time();
    server_ended = server_time();
}

static void report(uint64_t items)
{
    double took = ended - begun;
    printf("{\"per_s\": %.1f, \"seconds\": %.3f, \"items\": %lu, \"load_cpu\": %.3f", items / took, took, items,
           (client_ended - client_begun) / took);
    if (has_server_clock)
        printf(", \"server_cpu\": %.3f, \"cpu_us\": %.3f", (server_ended - server_begun) / took,
               items ? (server_ended - server_begun) * 1e6 / items : 0);
    if (slow_wanted) printf(", \"slow_per_s\": %.1f", slow_answered / took);
    print_times("", &fast_times);
    print_times("slow_", &slow_times);
    printf(", \"wrong\": %lu, \"failed\": %lu, \"failure\": \"%s\"}\n", wrong, failed, first_failure);
}

/* The calls that are due by now, by the next clients that wait for no answer. */
static void call_at_rate(void)
{
    static double due;
    static int next;
    if (!due) due = now;
    for (int tries = 0; due <= now && tries < total_clients; tries++) {
        struct client *client = &clients[next];
        next = (next + 1) % total_clients;
        if (!client->idle) continue;
        client->idle = false;
        client->sent_at[client->oldest] = due; /* so that a server that stands still is not asked less */
        say(client, &call, 1);
        due += 1 / rate;
    }
}

static void for_some_time(void)
{
    double until = now + warm_up;
    for (int phase = 0; phase < 2; phase++) {
        while (now < until) {
            if (!strcmp(mode, "churn"))
                for (int i = 0; i < total_clients; i++)
                    if (!clients[i].phase) begin(&clients[i]);
            if (rate) call_at_rate();
            turn();
        }
        if (phase) break;
        measuring = true;
        start_watch();
        until = now + seconds;
    }
    stop_watch();
    report(answered);
}

static void run_calls(void)
{
    open_all();
    for (int i = 0; i < total_clients; i++) {
        for (int k = 0; k < in_flight; k++) clients[i].sent_at[k] = now;
        clients[i].idle = true;
        if (!rate) say(&clients[i], clients[i].slow ? &slow_call : &call, in_flight);
    }
    for_some_time();
}

static void run_listen(void)
{
    open_all();
    for_some_time();
}

static void run_fan(void)
{
    struct client *teller = &clients[wanted];
    open_all();
    for (int round = 0; round <= rounds; round++) {
        uint64_t before = arrived, own = teller->messages;
        if (round == 1) start_watch();
        now = clock_of(CLOCK_MONOTONIC);
        double from = now;
        say(teller, &trigger, 1);
        while (arrived - before - (teller->messages - own) < (uint64_t)wanted * per_round) turn();
        if (round) keep(&fast_times, now - from);
        while (teller->messages == own) turn();
    }
    stop_watch();
    report((uint64_t)wanted * per_round * rounds);
}

static void run_hold(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    open_all();
    printf("{\"open\": %d}\n", open_now);
    fflush(stdout);
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
    for (;;) {
        struct epoll_event events[512];
        int count = epoll_wait(poller, events, 512, 1000);
        now = clock_of(CLOCK_MONOTONIC);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                printf("{\"open\": %d, \"failed\": %lu}\n", open_now, failed);
                return;
            }
            if (client->phase) on_event(client, events[i].events);
        }
        if (now > give_up) stop_with("nobody ended it");
    }
}

static const char *echo_text(long size)
{
    const char *head = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"echo\",\"params\":[\"", *tail = "\"]}";
    char *text = malloc(strlen(head) + size + strlen(tail) + 1);
    size_t at = strlen(head);
    strcpy(text, head);
    for (long i = 0; i < size; i++) text[at + i] = 'a' + (i * 7 + i / 26) % 26;
    strcpy(text + at + size, tail);
    return text;
}

int main(int count, char **words)
{
    int option;
    if (count < 2) stop_with("calls, fan, churn, listen or hold?");
    mode = words[1];
    optind = 2;
    while ((option = getopt(count, words, "p:n:d:t:w:m:M:g:s:H:zTP:q:b:k:r:R:")) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'n': wanted = atoi(optarg); break;
        case 'd': in_flight = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'w': warm_up = atof(optarg); break;
        case 'm': call_text = optarg; break;
        case 'M': echo_size = atol(optarg); break;
        case 'g': greeting_text = optarg; break;
        case 's': slow_wanted = atoi(optarg); slow_text = strchr(optarg, ':'); break;
        case 'H': header = optarg; break;
        case 'z': deflate = true; break;
        case 'T': tls = true; break;
        case 'P': has_server_clock = !clock_getcpuclockid(atoi(optarg), &server_clock); break;
        case 'q': at_once = atoi(optarg); break;
        case 'b': trigger_text = optarg; break;
        case 'k': per_round = strtoul(optarg, NULL, 10); break;
        case 'r': rounds = atoi(optarg); break;
        case 'R': rate = atof(optarg); break;
        default: stop_with("an option that is not known");
        }
    }
    if (!port || (slow_wanted && !slow_text)) stop_with("an option is missing");
    signal(SIGPIPE, SIG_IGN);
    call = make_words(echo_size ? echo_text(echo_size) : call_text);
    if (greeting_text) greeting = make_words(greeting_text);
    if (slow_text) slow_call = make_words(slow_text + 1);
    if (trigger_text) trigger = make_words(trigger_text);
    if (tls) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    }
    bool churn = !strcmp(mode, "churn"), fan = !strcmp(mode, "fan");
    total_clients = churn ? at_once : wanted + slow_wanted + fan;
    clients = calloc(total_clients, sizeof *clients);
    for (int i = 0; i < total_clients; i++) {
        clients[i].sent_at = calloc(in_flight, sizeof(double));
        clients[i].slow = i >= wanted && !fan;
    }
    room = malloc(ROOM);
    poller = epoll_create1(0);
    now = clock_of(CLOCK_MONOTONIC);
    give_up = now + (strcmp(mode, "hold") ? 60 : 300);
    listening = !strcmp(mode, "listen");
    if (churn) for_some_time();
    else if (fan) run_fan();
    else if (!strcmp(mode, "calls")) run_calls();
    else if (!strcmp(mode, "hold")) run_hold();
    else if (listening) run_listen();
    else stop_with("calls, fan, churn, listen or hold?");
    return 0;
}
