/* The floor for throughput: an event loop around the same fixed bytes, with no HTTP in it. */
#define _GNU_SOURCE
#include <sys/epoll.h>
#include "floor.h"

static void watch(int poll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

int main(void) {
    int listener = listen_on_port();
    int poll = epoll_create1(0);
    watch(poll, listener);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                int connection = accept4(listener, 0, 0, SOCK_NONBLOCK);
                if (connection >= 0) watch(poll, connection);
            } else if (!answer(fd)) {
                close(fd);
            }
        }
    }
}
