/* bare - the least that a server of this protocol can do: what the machine itself allows.
 *
 *     cc -O2 -o bare bare.c -lssl -lcrypto
 *     bare PORT [CERTIFICATE KEY]
 *
 * One thread, epoll, no checks: each frame is answered with the same bytes; a frame with the word "broadcast" sends
 * `count` frames of `size` bytes to every other connection, one write for each. It knows only the load generator's key.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 20000

static const char upgraded[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char result[] = "\x81\x28{\"jsonrpc\":\"2.0\",\"result\":840000,\"id\":1}";
static SSL *secured[MOST];
static bool open_now[MOST], talking[MOST];
static char room[1 << 16], frames[1 << 20];
static SSL_CTX *context;
static int poller;

static void leave(int fd)
{
    if (secured[fd]) SSL_free(secured[fd]);
    secured[fd] = NULL;
    open_now[fd] = talking[fd] = false;
    close(fd);
}

static ssize_t receive(int fd, char *to, size_t size)
{
    return secured[fd] ? SSL_read(secured[fd], to, size) : read(fd, to, size);
}

static void transmit(int fd, const char *from, size_t size)
{
    if (secured[fd]) SSL_write(secured[fd], from, size);
    else if (send(fd, from, size, MSG_NOSIGNAL) < 0) return;
}

static void unmasked(char *payload, const char *key, size_t size)
{
    for (size_t i = 0; i < size; i++) payload[i] ^= key[i % 4];
}

static void broadcast(int from, const char *text)
{
    const char *params = strstr(text, "\"params\":[");
    int count = 1, size = 200;
    if (params) sscanf(params, "\"params\":[%d,%d]", &count, &size);
    int head = size < 126 ? 2 : 4;
    frames[0] = '\x81';
    frames[1] = size < 126 ? size : 126;
    if (head == 4) frames[2] = size >> 8, frames[3] = size;
    memset(frames + head, 'x', size);
    for (int i = 0; i < count; i++)
        for (int fd = 0; fd < MOST; fd++)
            if (talking[fd] && fd != from) transmit(fd, frames, size + head);
}

static void serve(int fd)
{
    ssize_t got = receive(fd, room, sizeof room - 1);
    if (got <= 0) {
        int reason = secured[fd] ? SSL_get_error(secured[fd], got) : 0;
        if (reason != SSL_ERROR_WANT_READ) leave(fd);
        return;
    }
    if (!talking[fd]) {
        transmit(fd, upgraded, sizeof upgraded - 1);
        talking[fd] = true;
        return;
    }
    for (ssize_t at = 0; at + 6 <= got;) {
        size_t size = room[at + 1] & 127, head = 6;
        if ((room[at] & 15) == 8) {
            transmit(fd, "\x88\x02\x03\xe8", 4);
            leave(fd);
            return;
        }
        if (size == 126) size = (unsigned char)room[at + 2] << 8 | (unsigned char)room[at + 3], head = 8;
        unmasked(room + at + head, room + at + head - 4, size);
        if (memmem(room + at + head, size, "broadcast", 9)) broadcast(fd, room + at + head);
        transmit(fd, result, sizeof result - 1);
        at += head + size;
    }
}

int main(int count, char **words)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (count < 2) return 2;
    place.sin_port = htons(atoi(words[1]));
    signal(SIGPIPE, SIG_IGN);
    if (count > 3) {
        context = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(context, words[2]) != 1) return 2;
        if (SSL_CTX_use_PrivateKey_file(context, words[3], SSL_FILETYPE_PEM) != 1) return 2;
    }
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&place, sizeof place) || listen(listener, 4096)) return 1;
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[512];
        int ready = epoll_wait(poller, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (secured[fd] && !SSL_is_init_finished(secured[fd])) {
                    int outcome = SSL_accept(secured[fd]);
                    if (outcome != 1 && SSL_get_error(secured[fd], outcome) != SSL_ERROR_WANT_READ) leave(fd);
                    else if (outcome == 1 && SSL_has_pending(secured[fd])) serve(fd);
                    continue;
                }
                do serve(fd);
                while (open_now[fd] && secured[fd] && SSL_pending(secured[fd]));
                continue;
            }
            int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (client < 0 || client >= MOST) continue;
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            open_now[client] = true;
            if (context) {
                secured[client] = SSL_new(context);
                SSL_set_fd(secured[client], client);
                SSL_set_accept_state(secured[client]);
            }
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
            epoll_ctl(poller, EPOLL_CTL_ADD, client, &event);
        }
    }
}
