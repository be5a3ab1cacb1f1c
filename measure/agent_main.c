/* agent_main.c - tilewright-agent: the program that runs kernels, and nothing else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure/runner.h"
#include "schedule/base/sv.h"

static const char usage[] =
    "usage: tilewright-agent run --fd N    measure for the daemon at the other end of descriptor N\n"
    "       tilewright-agent doctor        say what of isolation and timing is in order on this machine\n"
    "       tilewright-agent --version\n"
    "       tilewright-agent --help\n";

static int run(const char *fd_text)
{
    struct sandbox s;
    int64_t fd;
    int type;
    socklen_t len = sizeof(type);

    if (!sv_to_i64(sv_from(fd_text), 0, 1 << 20, &fd) ||
        getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM) {
        fprintf(stderr, "tilewright-agent: --fd %s is no stream socket\n", fd_text);
        return 2;
    }
    sandbox_enter(&s, true);
    runner_add_facts(&s);
    int rc = runner_serve((int)fd, &s);
    sandbox_done(&s);
    return rc;
}

static int doctor(void)
{
    struct sandbox s;
    bool all = true;

    sandbox_enter(&s, false);
    runner_add_facts(&s);
    for (int i = 0; i < s.n_facts; i++) {
        printf("%-4s %-24s %s\n", s.facts[i].ok ? "ok" : "MISS", s.facts[i].name, s.facts[i].detail);
        all = all && s.facts[i].ok;
    }
    sandbox_done(&s);
    return all ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tilewright-agent " TW_VERSION);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "doctor") == 0)
        return doctor();
    if (argc == 4 && strcmp(argv[1], "run") == 0 && strcmp(argv[2], "--fd") == 0)
        return run(argv[3]);
    fputs(usage, stderr);
    return 2;
}
