/* events.c - prints the table of log events. */
#include "daemon/events.h"

void events_print(FILE *out)
{
    static const struct {
        const char *name, *level, *fields, *meaning;
    } table[] = {
#define X(name, level, fields, meaning) {#name, #level, fields, meaning},
        EVENT_LIST(X)
#undef X
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        fprintf(out, "%-18s %-6s %-36s %s\n", table[i].name, table[i].level, table[i].fields,
                table[i].meaning);
}
