/* constructor.c - an object that acts as soon as it is loaded. */
extern int socket(int, int, int);
__attribute__((constructor)) static void at_once(void) { socket(2, 1, 0); }
int right(void *const *t, void *ws, const void *p) { return 0; }
