// SPDX-License-Identifier: Apache-2.0
// argv → subcommand, or the helper process that asks for proxies (dial/helper.h).
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "cmd/command.h"
#include "dial/helper.h"

// Whoever starts us with a standard descriptor closed would have a socket of ours take its place.
static void fill_standard(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard();
    if (argc == 2 && strcmp(argv[1], HELPER_WORD) == 0)
        return helper_main();
    return command_main(argc, argv);
}
