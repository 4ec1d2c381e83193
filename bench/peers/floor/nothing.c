/* The floor for the probe: exec and exit. */
int main(void) { return 0; }
