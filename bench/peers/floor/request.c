/* The floor for a probe of a path: connects to PORT, asks, takes what the first read gives, exits. */
#include <string.h>

#include "floor.h"

static const char REQUEST[] = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

int main(void) {
    struct sockaddr_in address = loopback();
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    char response[2048];
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) return 1;
    if (write(connection, REQUEST, sizeof REQUEST - 1) <= 0) return 1;
    if (read(connection, response, sizeof response) < 12) return 1;
    return memcmp(response + 9, "200", 3) ? 1 : 0;
}
