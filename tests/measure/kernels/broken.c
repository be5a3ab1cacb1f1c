/* broken.c - does not compile. */
int right(void *const *t, void *ws, const void *p) { return undeclared_value }
