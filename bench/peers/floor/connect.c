/* The floor for a probe that probes: connects to PORT and exits. */
#include "floor.h"

int main(void) {
    struct sockaddr_in address = loopback();
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    return connect(connection, (struct sockaddr *)&address, sizeof address) ? 1 : 0;
}
