// SPDX-License-Identifier: Apache-2.0
// argv → subcommand.
#include <fcntl.h>
#include <unistd.h>
#include "cmd/command.h"

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
    return command_main(argc, argv);
}
