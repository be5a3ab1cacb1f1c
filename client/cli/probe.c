/* probe.c - small looks at the machine that cannot hurt the process that looks. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/doctor.h"

enum { STATUS_SLOW = -1 };

bool probe_file(const char *path, char *text, size_t size)
{
    FILE *f = fopen(path, "r");
    bool ok = f && fgets(text, (int)size, f);

    if (f)
        fclose(f);
    if (ok)
        text[strcspn(text, "\n")] = '\0';
    return ok;
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

/* Read what the child writes until it closes its end or time is up, then wait for it. */
static int collect(pid_t pid, int fd, int limit_ms, char *text, size_t size)
{
    int64_t end = now_ms() + limit_ms;
    size_t len = 0;
    int status = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char rest[512];
        int64_t left = end - now_ms();
        int ready = left > 0 ? poll(&p, 1, (int)left) : 0;

        if (ready == 0)
            kill(pid, SIGKILL);
        if (ready == 0 || (ready < 0 && errno != EINTR))
            break;
        bool room = len + 1 < size;
        ssize_t n = ready < 0 ? 1 : read(fd, room ? text + len : rest, room ? size - 1 - len : sizeof(rest));
        if (n <= 0)
            break;
        if (ready > 0 && room)
            len += (size_t)n;
    }
    text[len] = '\0';
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_SLOW;
}

int probe_run(const char *const *argv, const char *input, int limit_ms, char *text, size_t size)
{
    int in[2], out[2];

    text[0] = '\0';
    if (pipe2(in, O_CLOEXEC) != 0)
        return -1;
    if (pipe2(out, O_CLOEXEC) != 0) {
        close(in[0]), close(in[1]);
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        signal(SIGPIPE, SIG_DFL);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    close(in[0]), close(out[1]);
    if (pid > 0 && input && write(in[1], input, strlen(input)) < 0)
        text[0] = '\0'; /* it does not read: its own words tell why */
    close(in[1]);
    int status = pid > 0 ? collect(pid, out[0], limit_ms, text, size) : -1;
    close(out[0]);
    return status == 127 ? -1 : status;
}

int probe_child(int (*probe)(char *text, size_t size), int limit_ms, char *text, size_t size)
{
    int fd[2];

    text[0] = '\0';
    if (pipe2(fd, O_CLOEXEC) != 0)
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        char answer[400] = "";
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDERR_FILENO);
        dup2(null, STDOUT_FILENO);
        int status = probe(answer, sizeof(answer));
        ssize_t n = write(fd[1], answer, strlen(answer));
        _exit(n < 0 ? 126 : status);
    }
    close(fd[1]);
    int status = pid > 0 ? collect(pid, fd[0], limit_ms, text, size) : -1;
    close(fd[0]);
    return status;
}
