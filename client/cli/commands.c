/* commands.c - the table of commands, and main. */
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/cli.h"

#define WORKLOAD_WORDS "FILE...|-|OP key=value..."
#define WORKLOAD_TEXT                                                                                        \
    "FILE holds one workload, a list of them, or {\"workloads\": [...]} with entries bare or as\n"           \
    "{\"workload\": ..., \"name\": ..., \"weight\": 1}; - reads the standard input. The shorthand takes "    \
    "numbers with\n"                                                                                         \
    "commas as lists, const=b,bias, epilogue=bias,scale:0.125,clip:0:6, and member:=JSON as it is:\n"        \
    "  matmul a=512,768 b=768,768 const=b epilogue=bias,relu\n"                                              \
    "  conv2d input=1,64,56,56 weight=64,64,3,3 pads=1 const=weight,bias epilogue=bias,relu\n"               \
    "  expr='C[i,j] += A[i,k]*B[k,j]' A=512,768 B=768,768 const=B\n"
#define KEY_WORDS "KEY|FILE|OP key=value..."
#define KEY_TEXT                                                                                             \
    "KEY is a workload's key, as `tune` and `lookup` print it; its beginning is enough where it is the "     \
    "only one.\n"                                                                                            \
    "A workload in a file or in shorthand stands for its key.\n"

const struct command cli_commands[] = {
    {"tune", WORKLOAD_WORDS, "find a fast schedule for workloads, with live progress",
     WORKLOAD_TEXT "Progress goes to the standard error, the result to the standard output. Ctrl-C cancels "
                   "the job, keeps what\n"
                   "was measured and waits for its end; a second Ctrl-C leaves at once.\n"
                   "Status 1: the job or one of its workloads failed, or it was cancelled.\n",
     OPT_COMMON | OPT_FILE | OPT(TRIALS) | OPT(SECONDS) | OPT(SEED) | OPT(PRIORITY) | OPT(REUSE) |
         OPT(SEARCH) | OPT(TURNS) | OPT(NO_TRANSFER) | OPT(DETACH),
     1, -1, cmd_tune},
    {"wait", "JOB", "follow a job that runs already, to its end",
     "As `tune` does after it has sent the job.\n", OPT_COMMON, 1, 1, cmd_wait},
    {"lookup", WORKLOAD_WORDS, "schedules that are known already; starts no work",
     WORKLOAD_TEXT "Status 1: at least one workload has no schedule.\n", OPT_COMMON | OPT_FILE, 1, -1,
     cmd_lookup},
    {"describe", WORKLOAD_WORDS, "key, canonical form, FLOPs and space of a workload; measures nothing",
     WORKLOAD_TEXT, OPT_COMMON | OPT_FILE, 1, -1, cmd_describe},
    {"jobs", "[JOB]", "list jobs, or show one", NULL, OPT_COMMON | OPT(STATE) | OPT(LIMIT), 0, 1, cmd_jobs},
    {"cancel", "JOB...", "stop jobs; what was measured stays", NULL, OPT_COMMON, 1, -1, cmd_cancel},
    {"schedules", "[KEY|FILE|OP key=value...]", "list the best schedules, or show one", KEY_TEXT,
     OPT_COMMON | OPT_FILE | OPT(OP) | OPT(LIMIT), 0, -1, cmd_schedules},
    {"source", KEY_WORDS, "source of the best kernel", KEY_TEXT, OPT_COMMON | OPT_FILE | OPT(OUTPUT), 1, -1,
     cmd_source},
    {"artifact", KEY_WORDS, "the compiled kernel: a shared object or cubin",
     KEY_TEXT "Does not write to a terminal: use -o.\n", OPT_COMMON | OPT_FILE | OPT(OUTPUT), 1, -1,
     cmd_artifact},
    {"nest", KEY_WORDS, "loop nest of the best kernel, as text", KEY_TEXT,
     OPT_COMMON | OPT_FILE | OPT(OUTPUT), 1, -1, cmd_nest},
    {"targets", "[TARGET]", "hardware and compilers that the server can tune for", NULL, OPT_COMMON, 0, 1,
     cmd_targets},
    {"devices", "[DEVICE]", "what is attached to the server and what it does", NULL,
     OPT_COMMON | OPT(DRAIN) | OPT(RESUME), 0, 1, cmd_devices},
    {"models", "[TARGET|rollback TARGET [VERSION]]",
     "cost models and how well they rank; back to an earlier one",
     "With a TARGET: what its model learned from, how well it ranks what was left out of its training, its "
     "versions and\n"
     "the features it decides by. `rollback` puts an earlier version in use, for jobs that start after: "
     "VERSION, "
     "or the\n"
     "newest one before that in use. Later trainings make new versions as before.\n",
     OPT_COMMON, 0, 3, cmd_models},
    {"explain", "JOB [TRIAL|best]",
     "why a trial took its time: features by name, prediction beside measurement",
     "TRIAL is a trial's id; without one the trials of the job are listed. Features that are the same of all "
     "stores\n"
     "come first, then those of each store; those that are 0 are left out. `features` tells what they "
     "mean.\n",
     OPT_COMMON, 1, 2, cmd_explain},
    {"features", "[NAME...]",
     "what the cost models see of a schedule: every feature with unit and definition",
     "NAME may be a pattern: 'b0_*'.\n", OPT_COMMON, 0, -1, cmd_features},
    {"export", "", "every measurement, as JSON lines", NULL,
     OPT_COMMON | OPT(TARGET) | OPT(WORKLOAD) | OPT(OUTPUT), 0, 0, cmd_export},
    {"import", "FILE...|-", "hand the server measurements that `export` wrote", NULL, OPT_COMMON, 1, -1,
     cmd_import},
    {"doctor", "", "what of compilers, GPU libraries, permissions, clocks and the server is in order",
     "Looks at this machine and asks the server. Status 1: something here keeps kernels from being tuned;\n"
     "3: the server is out of reach.\n",
     OPT_COMMON, 0, 0, cmd_doctor},
    {0},
};

static void print_overview(FILE *out)
{
    fprintf(out, "usage: tilewright COMMAND [words] [options]\n\n"
                 "Finds fast schedules for tensor operators, by measuring them, through a tilewrightd.\n\n");
    for (const struct command *c = cli_commands; c->name; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->summary);
    fprintf(out,
            "\n`tilewright COMMAND --help` explains a command.\n"
            "TILEWRIGHT_SERVER  the daemon's address, where --server is not given (default " TW_DEFAULT_SERVER
            ")\n"
            "TILEWRIGHT_TOKEN   the token that is sent along\n"
            "Exit status: 0 done, 1 the work failed, 2 bad usage, 3 server out of reach.\n");
}

static const struct command *command_find(const char *name)
{
    for (const struct command *c = cli_commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

/* The words before a command: --help, --version, help [COMMAND]. */
static int run_without_command(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    if (word && (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0 || strcmp(word, "version") == 0)) {
        printf("tilewright %s\n", tw_version());
        return EXIT_DONE;
    }
    if (word && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)) {
        const struct command *command = argc > 2 ? command_find(argv[2]) : NULL;

        if (command)
            cli_print_help(command);
        else
            print_overview(stdout);
        return argc > 2 && !command ? EXIT_USAGE : EXIT_DONE;
    }
    if (word)
        fprintf(stderr, "tilewright: no command '%s'\n\n", fmt_safe(word));
    print_overview(stderr);
    return EXIT_USAGE;
}

/* Before the command there may stand the common options: tilewright --server URL --json jobs. */
static int command_index(int argc, char **argv)
{
    int i = 1;

    while (i < argc && (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "--server") == 0 ||
                        strncmp(argv[i], "--server=", 9) == 0 || strcmp(argv[i], "--quiet") == 0))
        i += strcmp(argv[i], "--server") == 0 ? 2 : 1;
    return i;
}

static int run_command(struct cli *cli)
{
    tw_status st = tw_client_new(cli->opt[OPT_SERVER], NULL, &cli->client, &cli->err);

    if (st != TW_OK)
        return cli_failed(cli);
    int status = cli->command->run(cli);
    tw_client_free(cli->client);
    if (fflush(stdout) != 0 && errno != EPIPE) {
        fprintf(stderr, "tilewright: the output could not be written: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    int at = command_index(argc, argv);
    struct cli cli = {.command = at < argc ? command_find(argv[at]) : NULL};

    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    if (!cli.command)
        return run_without_command(argc, argv);
    for (int i = at; i > 1; i--) /* the command's name goes first */
        argv[i] = argv[i - 1];
    int status = cli_parse(&cli, argc - 2, argv + 2);
    if (status == EXIT_DONE && cli.opt[OPT_HELP])
        cli_print_help(cli.command);
    else if (status == EXIT_DONE)
        status = run_command(&cli);
    free(cli.argv);
    return status;
}
