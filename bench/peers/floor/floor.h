/* Shared by the floors: every read is taken for one whole request, and answered with fixed bytes. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const char RESPONSE[] =
    "HTTP/1.1 200 OK\r\n"
    "content-type: text/plain; charset=utf-8\r\n"
    "content-length: 27\r\n"
    "\r\n"
    "Hello from Rust in Docker!\n";

static struct sockaddr_in loopback(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(atoi(getenv("PORT"))),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    return address;
}

static inline int listen_on_port(void) {
    struct sockaddr_in address = loopback();
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) _exit(1);
    return listener;
}

/* 0 when the peer is gone. */
static inline int answer(int connection) {
    char request[4096];
    if (read(connection, request, sizeof request) <= 0) return 0;
    return write(connection, RESPONSE, sizeof RESPONSE - 1) > 0;
}
