// SPDX-License-Identifier: Apache-2.0
// Writes every man page into the folder named: culvert.1, culvert-agent.1 … Run by the build, not installed.
#include <stdlib.h>
#include <string.h>
#include "cmd/command.h"

static FILE *page(const char *folder, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/culvert%s%s.1", folder, *name ? "-" : "", name);
    FILE *out = fopen(path, "w");
    if (!out) {
        perror(path);
        exit(1);
    }
    return out;
}

static void end(FILE *out)
{
    if (fclose(out) != 0) {
        perror("man page");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    FILE *out = page(argv[1], "");
    man_program(out);
    end(out);
    for (size_t i = 0; commands[i]; i++) {
        out = page(argv[1], commands[i]->name);
        man_command(out, commands[i]);
        end(out);
    }
    return 0;
}
