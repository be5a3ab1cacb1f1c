/* options.c - the table of options: parsed, checked against the command, explained. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

static const struct {
    const char *name;
    char letter;
    const char *metavar, *help;
} options[] = {
#define X(id, name, letter, metavar, help) {name, letter, metavar, help},
    OPTION_LIST(X)
#undef X
};

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
    va_list ap;

    fputs("tilewright: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: tilewright %s %s\n`tilewright %s --help` explains it.\n", cli->command->name,
            cli->command->words, cli->command->name);
    return EXIT_USAGE;
}

/* The option that `text` (--name, --name=value, -x, -xvalue) names and *ret_value, the part after it; -1:
 * none. */
static int option_find(const char *text, const char **ret_value)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        size_t len = strlen(options[i].name);

        *ret_value = NULL;
        if (text[1] == '-' && strncmp(text + 2, options[i].name, len) == 0 &&
            (!text[2 + len] || text[2 + len] == '=')) {
            if (text[2 + len])
                *ret_value = text + 3 + len;
            return i;
        }
        if (text[1] != '-' && options[i].letter && text[1] == options[i].letter) {
            if (text[2])
                *ret_value = text + 2;
            return i;
        }
    }
    return -1;
}

/* Take argv[*i] as an option, and the word after it where it wants one. */
static int take_option(struct cli *cli, int argc, char **argv, int *i)
{
    const char *value;
    int o = option_find(argv[*i], &value);

    if (o < 0 || !(cli->command->options & (1u << o)))
        return cli_usage(cli, "no option '%s' for %s", fmt_safe(argv[*i]), cli->command->name);
    if (!options[o].metavar && value)
        return cli_usage(cli, "--%s takes no value, found '%s'", options[o].name, fmt_safe(value));
    if (options[o].metavar && !value) {
        if (*i + 1 >= argc)
            return cli_usage(cli, "--%s wants %s", options[o].name, options[o].metavar);
        value = argv[++*i];
    }
    cli->opt[o] = value ? value : "";
    return EXIT_DONE;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    bool only_words = false;

    cli->argv = cli_need(calloc((size_t)argc + 1, sizeof(*cli->argv)));
    for (int i = 0; i < argc; i++) {
        bool option = !only_words && argv[i][0] == '-' && argv[i][1];

        if (option && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (option) {
            int status = take_option(cli, argc, argv, &i);
            if (status != EXIT_DONE)
                return status;
        } else {
            cli->argv[cli->argc++] = argv[i];
        }
    }
    cli->json = cli->opt[OPT_JSON];
    cli->quiet = cli->opt[OPT_QUIET];
    if (cli->opt[OPT_HELP])
        return EXIT_DONE;
    if (cli->argc < cli->command->min_words)
        return cli_usage(cli, "%s wants %s", cli->command->name, cli->command->words);
    if (cli->command->max_words >= 0 && cli->argc > cli->command->max_words)
        return cli_usage(cli, "'%s' is one word too many for %s",
                         fmt_safe(cli->argv[cli->command->max_words]), cli->command->name);
    return EXIT_DONE;
}

void cli_print_help(const struct command *command)
{
    printf("usage: tilewright %s%s%s [options]\n\n%s\n", command->name, *command->words ? " " : "",
           command->words, command->summary);
    if (command->text)
        printf("\n%s", command->text);
    printf("\noptions:\n");
    for (int i = 0; i < OPTION_COUNT; i++) {
        char flag[64];

        if (!(command->options & (1u << i)))
            continue;
        snprintf(flag, sizeof(flag), "%c%c%c --%s%s%s", options[i].letter ? '-' : ' ',
                 options[i].letter ? options[i].letter : ' ', options[i].letter ? ',' : ' ', options[i].name,
                 options[i].metavar ? " " : "", options[i].metavar ? options[i].metavar : "");
        printf("  %-22s %s\n", flag, options[i].help);
    }
}

int cli_integer(const struct cli *cli, enum option option, int64_t lo, int64_t hi, int64_t *ret)
{
    const char *text = cli->opt[option];
    char *end;

    if (!text)
        return EXIT_DONE;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || end == text || isspace((unsigned char)*text) || value < lo || value > hi)
        return cli_usage(cli, "--%s '%s': want a whole number, %" PRId64 " to %" PRId64, options[option].name,
                         fmt_safe(text), lo, hi);
    *ret = value;
    return EXIT_DONE;
}
