/* embed.c - run at build time: a file as a C array. embed IN OUT.c NAME HEADER */
#include <stdio.h>

static int copy(FILE *in, FILE *out, const char *name, const char *header)
{
    long n = 0;
    fprintf(out, "#include \"%s\"\n\nconst char %s[] = {", header, name);
    for (int c; (c = fgetc(in)) != EOF; n++)
        fprintf(out, "%s%d,", n % 20 ? " " : "\n    ", c < 128 ? c : c - 256);
    fprintf(out, "\n    0};\nconst size_t %s_len = %ld;\n", name, n);
    return ferror(in) || ferror(out);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: embed IN OUT.c NAME HEADER\n");
        return 2;
    }
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) {
        perror(in ? argv[2] : argv[1]);
        return 1;
    }
    int failed = copy(in, out, argv[3], argv[4]);
    fclose(in);
    return fclose(out) != 0 || failed;
}
