/* The floor for start-up: what a process needs at the least to answer, one connection at a time. */
#include "floor.h"

int main(void) {
    int listener = listen_on_port();
    for (;;) {
        int connection = accept(listener, 0, 0);
        while (connection >= 0 && answer(connection)) {}
        close(connection);
    }
}
